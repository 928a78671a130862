"""Config files are read with errors that name file, line and key."""

from __future__ import annotations

import textwrap
import traceback
from pathlib import Path

import pytest

from diptych.config import load_config, parse_config
from diptych.errors import ConfigError

MINIMAL = "collection: packages\nslots:\n  dense: {adapter: static, model: ./runs/x}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "diptych.yaml"
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def test_the_config_of_the_design_is_read(tmp_path: Path) -> None:
    config = load_config(
        write(
            tmp_path,
            """
            store: edge:./qdrant                  # later: https://... with api_key: ${QDRANT_API_KEY}
            collection: packages
            slots:
              dense:   {adapter: sentence-transformers, model: all-MiniLM-L6-v2}
              lexical: {adapter: bm25, language: english}
            search:
              retrieve: {dense: 100, lexical: 100}
              fuse: {kind: rrf, k: 60}
              limit: 10
            """,
        )
    )
    assert config.collection == "packages"
    assert config.store == f"edge:{tmp_path / 'qdrant'}"
    assert config.slots["dense"].options == {"model": "all-MiniLM-L6-v2"}
    assert config.search.retrieved(config.slots) == {"dense": 100, "lexical": 100}


def test_a_file_and_a_mapping_that_say_the_same_are_equal_configs(tmp_path: Path) -> None:
    from_file = load_config(write(tmp_path, "store: 'memory:'\ncollection: c\nslots: {d: {adapter: a, k: 1}}\n"))
    assert from_file == parse_config({"store": "memory:", "collection": "c", "slots": {"d": {"adapter": "a", "k": 1}}})


def test_options_may_stand_inline_or_under_options(tmp_path: Path) -> None:
    inline = parse_config({"collection": "c", "slots": {"d": {"adapter": "a", "k": 1, "b": 2}}})
    nested = parse_config({"collection": "c", "slots": {"d": {"adapter": "a", "b": 2, "options": {"k": 1}}}})
    assert inline == nested


def test_a_config_survives_a_dump_and_a_parse() -> None:
    slots = {"d": {"adapter": "a", "k": 1}, "p": {"adapter": "a", "passages": {"tokens": 64}}}
    config = parse_config({"collection": "c", "slots": slots, "search": {"limit": 3}})
    assert parse_config(config.model_dump(mode="json")) == config
    assert "passages" not in config.slots["d"].options


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = write(tmp_path, MINIMAL + "evaluate: {qrels: qrels.tsv, queries: /abs/queries.jsonl}\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config(path)
    assert config.store == f"edge:{tmp_path / 'qdrant'}"
    assert config.slots["dense"].options["model"] == str(tmp_path / "runs/x")
    assert (config.evaluate.qrels, config.evaluate.queries) == (str(tmp_path / "qrels.tsv"), "/abs/queries.jsonl")
    assert config.source.path == path


@pytest.mark.parametrize("value", ["all-MiniLM-L6-v2", "org/model", "${MODEL}", "${HOME}/model", "/abs/model"])
def test_a_value_that_may_be_a_name_is_left_alone(value: str) -> None:
    config = parse_config({"collection": "c", "slots": {"d": {"adapter": "a", "model": value}}})
    assert config.slots["d"].options["model"] == value


def test_paths_inside_nested_options_and_rerankers_are_resolved() -> None:
    raw = {
        "collection": "c",
        "slots": {"d": {"adapter": "a", "files": ["./x", "y"], "deep": {"file": "../z"}}},
        "search": {"rerank": [{"adapter": "r", "model": "./m"}]},
    }
    config = parse_config(raw)
    here = Path.cwd()
    assert config.slots["d"].options == {"files": [str(here / "x"), "y"], "deep": {"file": str(here.parent / "z")}}
    assert config.search.rerank[0].options == {"model": str(here / "m")}


def test_environment_references_stay_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    config = load_config(write(tmp_path, "api_key: ${SOME_KEY}\n" + MINIMAL))
    assert config.api_key is not None
    assert config.api_key.get_secret_value() == "${SOME_KEY}"
    assert "s3cret" not in repr(config)


def test_the_default_pipeline_retrieves_from_every_slot_but_the_rescorer() -> None:
    slots = {name: {"adapter": "x"} for name in ("dense", "lexical", "late")}
    config = parse_config({"collection": "c", "slots": slots, "search": {"rescore": {"slot": "late"}}})
    assert config.search.retrieved(config.slots) == {"dense": 100, "lexical": 100}


BAD_FILES = {
    "empty": ("", "the config file is empty.*where: .*diptych.yaml.*do: `diptych init`"),
    "only comments": ("# nothing\n", "the config file is empty"),
    "a list": ("- a\n- b\n", "not a mapping.*got: a list"),
    "a word": ("hello", "not a mapping.*got: text"),
    "a duplicate key": (
        "collection: a\nslots: {}\ncollection: b\n",
        "key 'collection' appears twice.*line 3, column 1",
    ),
    "a duplicate slot": ("slots:\n  d: {adapter: a}\n  d: {adapter: b}\n", "key 'd' appears twice.*line 3, column 3"),
    "a tab": ("collection: c\nslots:\n\td: 1\n", "not YAML.*line 3.*do: indent with spaces"),
    "an open bracket": ("collection: {a\n", "not YAML.*where: .*diptych.yaml, line 2"),
    "two documents": ("a: 1\n---\nb: 2\n", "not YAML.*expected a single document"),
    "an alias of nothing": ("collection: *nowhere\n", "not YAML.*undefined alias"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, name: str) -> None:
    text, match = BAD_FILES[name]
    with pytest.raises(ConfigError, match=f"(?s){match}"):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)there is no config file.*nowhere\.yaml.*diptych init"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_folder_is_no_config_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the config file"):
        load_config(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "diptych.yaml"
    path.write_bytes("collection: caf\xe9".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"(?s)not UTF-8 text.*byte 15"):
        load_config(path)


def test_a_corpus_in_place_of_a_config_is_refused_unparsed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too large"):
        load_config(write(tmp_path, "x: y\n" * 250_000))


SLOTS = "collection: c\nslots:\n  dense: {adapter: a}\n  lexical: {adapter: b}\n"
BAD_VALUES = {
    "no collection": ("slots: {d: {adapter: a}}", "'collection' is missing.*do: add it: Name of the collection"),
    "no slots": ("collection: c", "'slots' is missing"),
    "empty slots": ("collection: c\nslots: {}", "line 2, slots.*got: {}.*at least 1 item"),
    "a number where text is wanted": (
        "collection: 7\nslots: {d: {adapter: a}}",
        "got: 7.*expected: text.*put it in quotes",
    ),
    "slots as a list": ("collection: c\nslots: [a]", "line 2, slots.*got: a list.*a mapping"),
    "a slot without adapter": ("collection: c\nslots:\n  d: {}", "'adapter' is missing.*line 3, slots.d.adapter"),
    "a slot as text": ("collection: c\nslots:\n  d: bm25", "line 3, slots.d\n.*got: 'bm25'.*a mapping: key"),
    "options as text": ("collection: c\nslots:\n  d: {adapter: a, options: x}", "line 3, slots.d.options.*got: 'x'"),
    "a number as slot name": ("collection: c\nslots:\n  1: {adapter: a}", "a name must be text.*got: 1"),
    "an unknown section": (SLOTS + "serach: {}", "unknown key 'serach'.*line 5.*did you mean 'search'\\?"),
    "a key in the wrong section": (SLOTS + "limit: 3", "unknown key 'limit'.*'limit' belongs under search"),
    "an unknown search key": (SLOTS + "search:\n  retreive: {}", "line 6, search.retreive.*did you mean 'retrieve'"),
    "an unknown fusion key": (SLOTS + "search: {fuse: {kind: rrf, kk: 1}}", "search.fuse.kk.*did you mean 'k'"),
    "an unknown fusion": (
        SLOTS + "search: {fuse: {kind: rff}}",
        "search.fuse.kind.*got: 'rff'.*rrf \\| dbsf \\| linear.*did you mean 'rrf'",
    ),
    "no kind of fusion": (
        SLOTS + "search: {fuse: {k: 3}}",
        "'kind' is missing.*fuse.kind.*rrf \\| dbsf \\| linear",
    ),
    "an unknown storage key": (
        "collection: c\nslots:\n  d:\n    adapter: a\n    storage:\n      hnsw: {mm: 3}",
        "line 6, slots.d.storage.hnsw.mm.*did you mean 'm'",
    ),
    "no candidates": (
        SLOTS + "search:\n  retrieve:\n    dense: 0",
        "line 7, search.retrieve.dense.*got: 0.*at least 1",
    ),
    "a slot that is not there": (SLOTS + "search: {retrieve: {dens: 9}}", "no slot 'dens'.*did you mean 'dense'"),
    "no such rescorer": (
        SLOTS + "search: {rescore: {slot: late}}",
        "no slot 'late'.*expected: dense, lexical.*define it",
    ),
    "no such diversifier": (SLOTS + "search: {diversify: {slot: x}}", "no slot 'x'.*search.diversify.slot"),
    "a weight of what is not retrieved": (
        SLOTS + "search: {retrieve: {dense: 9}, fuse: {kind: rrf, weights: {lexical: 2}}}",
        "weight for 'lexical', which is not retrieved.*expected: dense.*add 'lexical' to search.retrieve",
    ),
    "a weight of a misspelt slot": (
        SLOTS + "search: {fuse: {kind: rrf, weights: {lexcal: 2}}}",
        "weight for 'lexcal', which is not retrieved.*did you mean 'lexical'",
    ),
    "a bare fusion": (
        SLOTS + "search: {fuse: rrf}",
        "search.fuse.*got: 'rrf'.*expected: a mapping.*do: write fuse: {kind: rrf}",
    ),
    "a bare, misspelt fusion": (SLOTS + "search: {fuse: dbfs}", "got: 'dbfs'.*do: did you mean fuse: {kind: dbsf}\\?"),
    "a negative weight": (SLOTS + "search: {fuse: {kind: linear, weights: {dense: -1}}}", "weights.dense.*got: -1"),
    "an infinite weight": (SLOTS + "search: {fuse: {kind: rrf, weights: {dense: .inf}}}", "got: inf.*finite number"),
    "a widening cascade": (
        SLOTS + "search:\n  rerank:\n  - {adapter: r, candidates: 10}\n  - {adapter: s, candidates: 20}",
        "line 8, search.rerank\\[1\\].candidates.*got: 20.*at most 10",
    ),
    "a reranker without adapter": (
        SLOTS + "search:\n  rerank:\n  - {candidates: 1}",
        "line 7, search.rerank\\[0\\].adapter",
    ),
    "a relevance above one": (
        SLOTS + "search: {diversify: {slot: dense, relevance: 2}}",
        "relevance.*got: 2.*at most 1",
    ),
    "a limit from the environment": (
        SLOTS + "search: {limit: '${LIMIT}'}",
        "got: '\\${LIMIT}'.*do: \\${NAME} works in",
    ),
    "an unknown metric key": (SLOTS + "evaluate: {metric: []}", "evaluate.metric.*did you mean 'metrics'"),
    "no input parts": (SLOTS + "populate: {input: []}", "populate.input.*at least 1 item"),
    "an unknown input part": (
        SLOTS + "populate: {input: [body]}",
        "populate.input\\[0\\].*got: 'body'.*'title' or 'text'",
    ),
    "a quantile": (
        "collection: c\nslots: {d: {adapter: a, storage: {quantization: {kind: scalar, quantile: 0.2}}}}",
        "storage.quantization.quantile.*got: 0.2.*more than 0.5",
    ),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_config_that_says_something_unusable_is_refused(tmp_path: Path, name: str) -> None:
    text, match = BAD_VALUES[name]
    with pytest.raises(ConfigError, match=f"(?s){match}"):
        load_config(write(tmp_path, text))


def test_all_problems_are_listed_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "stoer: x\ncollection: c\nslots: {d: {adapter: a}}\nsearch: {limit: 0}\nevaluat: {}\n")
    with pytest.raises(ConfigError, match=r"3 problems in .*diptych\.yaml") as caught:
        load_config(path)
    problems = caught.value.context["problems"]
    assert isinstance(problems, tuple)
    assert [problem.context["location"] for problem in problems] == [("stoer",), ("search", "limit"), ("evaluat",)]
    for problem in problems:
        assert problem.where in str(caught.value)


@pytest.mark.parametrize(
    "text", ["api_key: [s3cret]\n", "apikey: s3cret\n", "evaluate: {token: s3cret}\n", "timeout: {password: s3cret}\n"]
)
def test_what_may_be_a_secret_is_in_no_error_and_no_traceback(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, SLOTS + text))
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
