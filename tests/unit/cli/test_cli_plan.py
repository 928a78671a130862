"""`diptych plan` says what an edited config asks for, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diptych.cli.status import encoder_text
from diptych.runtime.amounts import duration, moment, size
from diptych_edge import EdgeClient

Run = Callable[..., Any]


def edit(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


@pytest.fixture
def filled(run: Run, config: Path, corpus: Path) -> Run:
    assert run("populate", corpus).code == 0
    return run


def test_an_unchanged_config_has_nothing_to_do(filled: Run) -> None:
    answer = filled("plan")
    assert (answer.code, answer.err) == (0, "")
    assert "animals: 4 documents" in answer.out
    assert "nothing to do: the collection matches the config" in answer.out


def test_another_encoder_is_re_encoded_and_the_reason_and_the_cost_are_told(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    answer = filled("plan")
    assert (answer.code, answer.err) == (0, "")
    (row,) = [line for line in answer.out.splitlines() if line.startswith("dense ")]
    assert row.split()[:4] == ["dense", "re-encode", "4", "4"]
    assert "under 1 s" in row
    assert "+1.5 kB" in row  # 4 documents, each 64 floats and 128 bytes of graph
    assert "dense: seed: unset -> 1" in answer.out
    timed = r"to apply: diptych apply; it takes .* by a sample on this machine: loading .*, encoding .*, the gate .*"
    assert re.search(timed, answer.out)


def test_the_json_has_every_step_and_whether_anything_is_pending(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    found = filled("plan", "--json").json()
    assert (found["documents"], found["pending"], found["under_way"]) == (4, True, False)
    assert [(step["slot"], step["action"], step["points"], step["encode"]) for step in found["steps"]] == [
        ("dense", "re-encode", 4, 4),
        ("lexical", "keep", 0, 0),
    ]
    assert found["steps"][0]["rate"] > 0
    assert found["encoding"] == pytest.approx(4 / found["steps"][0]["rate"])
    assert found["gate"] > 0
    assert found["seconds"] == found["loading"] + found["encoding"] + found["gate"]


@pytest.mark.parametrize(
    ("old", "new", "row", "detail"),
    [
        ("lexical:", "words:", ["words", "add", "4", "4"], "words: new in the config"),
        ("lexical:", "words:", ["lexical", "drop", "4"], "lexical: the config has no such slot"),
        ("fake-dense}", "fake-dense, storage: {on_disk: true}}", ["dense", "storage", "only", "4"], "storage.on_disk"),
        ("fake-dense}", "fake-dense, delay: 0.0}", ["dense", "settings", "only"], "dense: delay: unset -> 0.0"),
        (
            "fake-dense}",
            "fake-dense, query_prompt: find}",
            ["dense", "queries", "only", "4"],
            "dense: query_prompt: unset",
        ),
        ("limit: 3", "limit: 5", ["dense", "as", "it", "is"], "search.limit: 3 -> 5"),
    ],
)
def test_each_kind_of_change_has_its_word(
    filled: Run, config: Path, old: str, new: str, row: list[str], detail: str
) -> None:
    edit(config, old, new)
    answer = filled("plan", "--sample", 0)
    assert (answer.code, answer.err) == (0, "")
    assert row in [line.split() for line in answer.out.splitlines()]
    assert detail in answer.out
    assert "to apply: diptych apply" in answer.out


@pytest.mark.parametrize(
    ("old", "new", "gated"),
    [
        ("fake-dense}", "fake-dense, seed: 1}", True),
        ("fake-dense}", "fake-dense, storage: {on_disk: true}}", True),
        ("limit: 3", "fuse: {kind: rrf}", True),
        ("limit: 3", "limit: 5", False),
        ("fake-dense}", "fake-dense, delay: 0.0}", False),
        ("limit: 3", "limit: 3", False),
    ],
)
def test_it_is_said_before_an_apply_that_its_gate_has_no_judgements(
    filled: Run, config: Path, tmp_path: Path, old: str, new: str, gated: bool
) -> None:
    said = "no judgements: the gate will not measure quality; name them under evaluate: {queries: FILE, qrels: FILE}"
    edit(config, old, new)
    assert (said in filled("plan", "--sample", 0).out.splitlines()) == gated
    assert filled("plan", "--sample", 0, "--json").json()["gated"] == gated
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "cat"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tcat\t1\n")
    config.write_text(config.read_text() + "evaluate: {queries: queries.jsonl, qrels: qrels.tsv}\n")
    assert said not in filled("plan", "--sample", 0).out
    assert "cannot measure" not in filled("plan", "--sample", 0).err
    (tmp_path / "qrels.tsv").unlink()
    assert "warning: the gate cannot measure quality: " in filled("plan", "--sample", 0).err


def test_it_is_said_who_uses_edited_search_settings_before_apply(filled: Run, config: Path) -> None:
    said = "search: programs that open this config use these settings already, all others after diptych apply"
    edit(config, "limit: 3", "limit: 2")
    assert said in filled("plan", "--sample", 0).out
    assert filled("search", "animal", "--json").json()["queries"][0]["hits"][2:] == []
    stored = filled("search", "animal", "--json", "--store", "edge:qdrant", "--collection", "animals").json()
    assert len(stored["queries"][0]["hits"]) == 3
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    assert said not in filled("plan", "--sample", 0).out, "what opens the config is refused now"


def test_without_a_sample_nothing_is_estimated(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    answer = filled("plan", "--sample", 0)
    assert answer.out.splitlines()[1].split() == ["slot", "change", "documents", "encode"]
    assert filled("plan", "--sample", 0, "--json").json()["steps"][0]["rate"] is None


def test_the_exit_code_tells_ci_of_pending_changes_when_asked(filled: Run, config: Path) -> None:
    assert filled("plan", "--exit-code").code == 0
    edit(config, "limit: 3", "limit: 5")
    assert filled("plan").code == 0
    answer = filled("plan", "--exit-code", "--json")
    assert answer.code == 4
    assert answer.json()["pending"] is True


def test_documents_that_lack_a_vector_are_to_be_filled_and_pending(filled: Run) -> None:
    with EdgeClient("qdrant") as client:
        points, _ = client.scroll("animals", limit=3)
        client.delete_vectors("animals", ["dense.1"], points=[point.id for point in points])
    answer = filled("plan", "--exit-code", "--sample", 0)
    assert answer.code == 4
    assert ["dense", "fill", "gaps", "3", "3"] in [line.split() for line in answer.out.splitlines()]
    assert "dense: 3 documents have no vector yet and get one" in answer.out
    assert "animals: filled gaps" in filled("apply").out
    assert filled("plan", "--exit-code").code == 0


def test_a_slot_can_be_made_anew_although_nothing_differs(filled: Run) -> None:
    answer = filled("plan", "--re-encode", "dense", "--sample", 0)
    assert "dense: asked for" in answer.out
    assert filled("plan", "--re-encode", "dense", "--exit-code").code == 4


def test_a_misspelt_slot_is_refused_with_the_nearest(filled: Run) -> None:
    answer = filled("plan", "--re-encode", "dens")
    assert answer.code == 1
    assert "--re-encode names no slot of the config: 'dens'" in answer.err
    assert "did you mean 'dense'?" in answer.err


def test_passages_of_a_filled_slot_are_refused_by_name_until_they_are_applied(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, passages: {tokens: 16, overlap: 2}}")
    answer = filled("search", "cats")
    assert answer.code == 1
    assert "the config's slot makes vectors of another kind than those that fill it" in answer.err
    assert "do: restore the adapter and its options, `passages` among them; to change it: diptych plan" in answer.err
    assert "dense: passages: unset -> {tokens: 16, overlap: 2}" in filled("plan").out


def test_a_secret_among_the_options_is_not_shown(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, expand: {api_key: s3cret, feline: cat}}")
    answer = filled("plan", "--sample", 0)
    assert "dense: expand: unset -> {api_key: ***, feline: cat}" in answer.out
    assert "s3cret" not in answer.out + filled("plan", "--json").out


def test_before_the_first_populate_it_says_how_to_fill(run: Run, config: Path, tmp_path: Path) -> None:
    answer = run("plan")
    assert answer.code == 1
    assert "diptych populate SOURCE" in answer.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diptych.yaml"]


def test_a_plan_changes_nothing(filled: Run, config: Path) -> None:
    before = filled("status", "--history", "--json").json()
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    filled("plan")
    assert filled("status", "--history", "--json").json() == before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "under 1 s"), (34.4, "34 s"), (600, "10 min"), (3 * 3600, "3.0 h"), (3.5 * 86400, "3.5 days")],
)
def test_times_are_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (430_000, "430 kB"), (2.6e12, "2.6 TB")]
)
def test_sizes_are_in_the_unit_that_fits(count: float, text: str) -> None:
    assert size(count) == text


def test_an_encoder_is_told_without_its_secrets() -> None:
    options = {"model": "m", "api_key": "s3cret", "token": "${HF_TOKEN}"}
    assert encoder_text("remote", options) == "remote, model: m, api_key: ***, token: ${HF_TOKEN}"


def test_moments_are_to_the_minute() -> None:
    assert moment("2026-11-25T04:10:33+00:00") == "2026-11-25 04:10 UTC"
    assert moment("") == "at an unknown time"
