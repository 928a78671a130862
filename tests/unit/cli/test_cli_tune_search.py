"""`diptych tune search`: what it prints, when it writes the config, and what it says when it cannot choose."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from diptych.config import load_config
from diptych.registry import Registry
from diptych.search import Dbsf, Linear, Rerank, Retrieve, Rrf
from diptych_lab.cli.tune import show_tuned
from diptych_lab.tune import ConfigChange, SearchReport, SearchRow, config_change, write_config
from diptych_lab.tune.trials import Against

Run = Callable[..., Any]
PAIR = Retrieve("dense", 100) + Retrieve("lexical", 100)
ROWS = (
    SearchRow(PAIR >> Linear("zscore", {"dense": 0.7, "lexical": 0.3}, missing=-1.0), 0.52, 0.02, 4.0, front=True),
    SearchRow(PAIR >> Rrf(), 0.45, 0.02, 3.0, front=True),
)


def report(*, passed: bool) -> SearchReport:
    gain = Against("the present pipeline", 0.05, 0.02 if passed else -0.01, 0.08, None if passed else 140)
    return SearchReport("c", 60, ROWS, 1, 0 if passed else 1, 0, passed, (gain,), 1.5, 12)


def shown(found: SearchReport, change: ConfigChange, *, synthetic: bool = False, write: bool = False) -> None:
    show_tuned(found, change, synthetic=synthetic, write=write, config=Path("c"))


def test_a_gain_that_is_shown_is_said_in_one_sentence_with_a_diff_of_the_config(
    config: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text() + "  fuse: {kind: rrf}\n")
    shown(report(passed=True), config_change(config, report(passed=True), registry))
    out = capsys.readouterr().out
    assert "\n-    kind: rrf\n+    kind: linear\n+    normalize: zscore\n" in out
    assert "\n   limit: 3\n" in out, "what stays is its surroundings"
    shown(report(passed=False), ConfigChange(), synthetic=True, write=True)
    printed = capsys.readouterr()
    assert "★ ●" not in printed.out, "a star marks only what is taken"
    assert "c stays as it is: no change passed, so nothing was written" in printed.out
    assert "words of the documents favour lexical slots" in printed.err


def test_what_passed_is_written_and_comments_stay(config: Path, registry: Registry) -> None:
    text = config.read_text()
    config.write_text("# mine\n" + text.replace("  limit: 3", "  limit: 7  # how many\n  rescore: {slot: dense}"))
    change = config_change(config, report(passed=True), registry)
    assert change.keys == "search.retrieve, search.fuse, search.rescore (removed)"
    write_config(config, change)
    text, search = config.read_text(), load_config(config).search
    assert text.startswith("# mine\n")
    assert "# how many" in text
    assert (search.limit, search.rescore) == (7, None)
    assert asdict(search.fuse) == {
        "kind": "linear",
        "normalize": "zscore",
        "weights": {"dense": 0.7, "lexical": 0.3},
        "missing": -1.0,
    }


REST = """\
store:   "memory:"     # as it is
collection: c
slots: {dense: {adapter: fake-dense},   lexical: {adapter: fake-sparse}}
populate:
    {chunk:   7}  # a style of its own
"""


@pytest.mark.parametrize(
    "search",
    [
        "search:\n  retrieve: {dense: 100, lexical: 100}  # both\n  fuse: {kind: rrf, k: 60}\n  limit: 3\n",
        "search: {fuse: {kind: rrf}, retrieve: {dense: 100,  lexical: 100}, limit: 3}   # short\n",
        "search:\n    limit:   3\n",
        "",
    ],
    ids=["block", "flow", "indented", "absent"],
)
@pytest.mark.parametrize("is_last", [True, False])
def test_what_is_written_keeps_its_comments(tmp_path: Path, registry: Registry, search: str, is_last: bool) -> None:
    path = tmp_path / "diptych.yaml"
    path.write_text(REST + search if is_last else search + REST)
    write_config(path, config_change(path, report(passed=True), registry))
    text = path.read_text()
    assert all(comment in text for comment in ("# as it is", "# a style of its own"))
    assert "# both" not in search or "retrieve: {dense: 100, lexical: 100}  # both\n" in text
    assert load_config(path).search.fuse.kind == "linear"


@pytest.mark.parametrize("secret", ["api_key: sesame\n", "store: 'https://me:sesame@host'\n"])
def test_a_diff_shows_no_secret(tmp_path: Path, registry: Registry, secret: str) -> None:
    path = tmp_path / "diptych.yaml"
    rest = REST.partition("\n")[2]
    store = "" if secret.startswith("store") else "store: 'https://host'\n"
    path.write_text(f"{secret}{store}{rest}search: {{limit: 3}}\n")
    change = config_change(path, report(passed=True), registry)
    assert "linear" in change.diff
    assert "sesame" not in change.diff


def test_a_reranker_is_written_with_its_own_options_and_a_dropped_one_is_removed(
    config: Path, registry: Registry
) -> None:
    text = config.read_text()
    stages = "  rerank:\n    - {adapter: fake-reranker, delay: 0.5, candidates: 50}  # slow\n"
    config.write_text(text.replace("  limit: 3", f"{stages}  limit: 3"))
    present = SearchRow(PAIR >> Rrf() >> Rerank("fake-reranker", 50, {"delay": 0.5}), 0.5, 0.02, 90.0)
    fewer = SearchRow(PAIR >> Dbsf() >> Rerank("fake-reranker", 10, {"delay": 0.5}, weight=0.3), 0.6, 0.02, 30.0)
    found = replace(report(passed=True), rows=(fewer, present), rerankers=("fake-reranker",))
    change = config_change(config, found, registry)
    assert change.keys == "search.retrieve, search.fuse, search.rerank"
    write_config(config, change)
    (stage,) = load_config(config).search.rerank
    assert (stage.candidates, stage.weight, stage.options) == (10, 0.3, {"delay": 0.5})
    write_config(config, config_change(config, replace(found, rows=(ROWS[0], present)), registry))
    assert load_config(config).search.rerank == []


def test_without_judgements_made_queries_are_asked_and_written_only_where_that_is_wanted(
    run: Run, config: Path, corpus: Path
) -> None:
    assert run("populate", corpus).code == 0
    for options in ((), ("--synthetic", "--write")):
        answer = run("tune", "search", *options)
        assert answer.code == 0
        assert "judge real queries before you trust it" in answer.err
    before = config.read_text()
    answer = run("tune", "search", "--write")
    assert (answer.code, config.read_text()) == (1, before)
    assert "--synthetic to use synthetic queries" in answer.err


def test_what_judgements_show_is_written_and_apply_makes_it_live(run: Run, config: Path, tmp_path: Path) -> None:
    """A dense slot of two numbers finds nothing, so equal ranks of both slots are worse than the words alone."""
    chance = random.Random(3)
    words = [f"word{n}" for n in range(80)]
    texts = [" ".join(chance.sample(words, 10)) for _ in range(60)]
    lines = [json.dumps({"id": f"d{n}", "text": text}) for n, text in enumerate(texts)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    queries = [{"_id": f"q{n}", "text": " ".join(chance.sample(text.split(), 3))} for n, text in enumerate(texts)]
    (tmp_path / "judged/qrels").mkdir(parents=True)
    (tmp_path / "judged/queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    grades = "".join(f"q{n}\td{n}\t3\n" for n in range(len(texts)))
    (tmp_path / "judged/qrels/test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{grades}")
    weak = config.read_text().replace("fake-dense}", "fake-dense, dimension: 2}")
    config.write_text(weak + "  fuse: {kind: rrf}\n")
    assert run("populate", "corpus.jsonl").code == 0
    answer = run("tune", "search", "judged", "--write")
    assert "it is better than the present pipeline" in answer.out, answer
    assert "to make it live: diptych plan, then diptych apply" in answer.out
    judged = ("--queries", "judged/queries.jsonl", "--qrels", "judged/qrels/test.tsv")
    assert run("plan", "--json").json()["pending"]
    assert run("apply", *judged).code == 0
    again = run("plan", "--json").json()
    assert not again["pending"], again
