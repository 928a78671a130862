"""`diptych status` shows where everything is, and loads no model for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def edit(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


@pytest.fixture
def filled(run: Run, config: Path, corpus: Path) -> Run:
    assert run("populate", corpus).code == 0
    return run


def rows(run: Run) -> list[list[str]]:
    return [line.split() for line in run("status").out.splitlines()]


def test_a_collection_at_rest_has_its_live_vectors(filled: Run) -> None:
    answer = filled("status")
    assert (answer.code, answer.err) == (0, "")
    assert [line.split() for line in answer.out.splitlines()] == [
        ["animals:", "4", "documents"],
        ["slot", "vector", "is", "lack", "it", "made", "by"],
        ["dense", "dense.1", "live", "0", "fake-dense"],
        ["lexical", "lexical.1", "live", "0", "fake-sparse"],
    ]


def test_a_swap_under_way_is_shown_with_who_began_it(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    filled("apply", "--no-cut-over", "--why", "smaller")
    assert ["dense", "dense.2", "building", "0", "fake-dense,", "seed:", "1"] in rows(filled)
    text = filled("status").out
    assert "a swap is under way, started 20" in text
    assert "(smaller)" in text
    assert "no process is applying it; to continue: diptych apply; to abandon it: diptych rollback" in text
    assert filled("status", "--json").json()["swap"]["running"] is False


def test_a_swap_that_the_gate_refused_says_why(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    edit(config, "  limit: 3\n", "  limit: 3\n  score_threshold: 1000\n")  # no hit is left
    assert filled("apply").code == 7
    text = filled("status").out
    assert "the gate refused it 20" in text
    assert "UTC: not measured: no judgements; 100% of the first 10 hits change" in text
    assert "to cut over anyway: diptych apply --ignore-gate" in text
    swap = filled("status", "--json").json()["swap"]
    assert (swap["filled"], swap["refused"].startswith("not measured: no judgements; 100% of")) == (True, True)
    filled("rollback")
    assert "refused" not in filled("status").out


def test_what_is_kept_is_shown_with_the_ways_on(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    filled("apply")
    assert ["dense", "dense.1", "kept", "0", "fake-dense"] in rows(filled)
    text = filled("status").out
    assert "dense.1 is kept for a rollback; to roll back: diptych rollback; to drop it: diptych finish" in text
    filled("finish")
    assert "kept" not in filled("status").out


def test_several_kept_vectors_are_spoken_of_in_the_plural(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    edit(config, "fake-sparse}", "fake-sparse, dimension: 512}")
    filled("apply", "--no-gate")
    kept = "dense.1, lexical.1 are kept for a rollback; to roll back: diptych rollback; to drop them: diptych finish"
    assert kept in filled("status").out
    edit(config, "seed: 1}", "seed: 2}")
    assert "the cut-over will drop dense.1, lexical.1, which are kept for a rollback" in filled("plan").err


def test_an_added_slot_can_be_rolled_back_and_status_says_so(filled: Run, config: Path) -> None:
    told = "the last cut-over replaced no vector; to undo it: diptych rollback; to give that up: diptych finish"
    assert told not in filled("status").out
    edit(config, "  lexical:", "  second: {adapter: fake-dense, seed: 1}\n  lexical:")
    assert filled("apply").code == 0
    assert told in filled("status").out
    assert filled("status", "--json").json()["can_roll_back"] is True
    assert filled("rollback").code == 0
    assert [row[0] for row in rows(filled)[2:4]] == ["dense", "lexical"]
    assert filled("rollback").code == 0
    assert told in filled("status").out, "a second rollback redoes the cut-over"
    assert filled("finish").code == 0
    assert told not in filled("status").out
    assert filled("status", "--json").json()["can_roll_back"] is False


def test_the_history_says_what_when_by_whom_and_why(filled: Run, config: Path) -> None:
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    filled("apply", "--why", "smaller")
    filled("rollback", "--why", "users find less")
    text = filled("status", "--history").out
    for what in ("created", "began", "cut over", "rolled back"):
        assert f" UTC  {what}\n" in text
    assert "  dense: fake-dense, generation 2\n" in text
    assert "  gate: not measured: no judgements; 0% of the first 10 hits change" in text
    assert "  why: users find less\n" in text
    events = filled("status", "--history", "--json").json()["history"]
    assert [event["what"] for event in events] == ["created", "began", "cut over", "rolled back"]
    assert "history" not in filled("status", "--json").json()


def test_options_are_shown_without_secrets(run: Run, config: Path, corpus: Path) -> None:
    edit(config, "fake-sparse}", "fake-sparse, expand: {api_key: s3cret, feline: cat}}")
    assert run("populate", corpus).code == 0
    answer = run("status")
    assert "expand: {api_key: ***, feline: cat}" in answer.out
    both = answer.out + run("status", "--json").out
    assert "s3cret" not in both
