"""Anchors after a kill: a step back, a build or a copy that is killed and repeated leaves those of the config.

The process is killed after each of its writes, as in test_swap_kill.py. In the end each document has its scores, a
search that explores by them answers like one of a collection made with that config, and nothing is left over.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from diptych.plugins.anchor_scores import write_anchors
from killed import CHUNK, Processes, copied, corpus, fake

pytestmark = [pytest.mark.long, pytest.mark.skipif(not hasattr(os, "fork"), reason="the tests fork")]

Slots = Mapping[str, Any]
EXPLORING = {
    "retrieve": {"dense": 10},
    "limit": 6,
    "rerank": [{"adapter": "smooth", "candidates": 4, "explore": {"anchors": "scores", "rounds": 3, "budget": 10}}],
}
QUERIES = ("word3 word9", "number5 word12", "word16 word20 word1")
DOCUMENTS, MORE = corpus(24), corpus(32)
DENSE: Slots = {"dense": fake("dense", dimension=16)}
ONE: Slots = {**DENSE, "scores": {"adapter": "smooth", "anchors": {"texts": "one.txt"}}}
OTHER: Slots = {**DENSE, "scores": {"adapter": "smooth", "anchors": {"texts": "other.txt"}}}
NEARER: Slots = {**ONE, "dense": fake("dense", dimension=24, seed=1)}
SWAPS: Mapping[str, tuple[Slots, Slots]] = {
    "anchors are added": (DENSE, ONE),
    "other anchors replace them": (ONE, OTHER),
    "the first stage changes below them": (ONE, NEARER),
}


class Workshop:
    """Processes, and what collections that were never killed look like."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes, self._folder, self._undisturbed = processes, folder, dict[str, Any]()

    def run(self, folder: Path, do: str, slots: Slots, **more: Any) -> dict[str, Any]:
        return self._processes.run(folder, do, config(slots), **more)

    def filled(self, folder: Path, slots: Slots, documents: Sequence[Any] = DOCUMENTS) -> Path:
        folder.mkdir(exist_ok=True)
        write_anchors(folder / "one.txt", [f"word{n} number{n}" for n in range(5)])
        write_anchors(folder / "other.txt", [f"word{n} word{n + 5}" for n in range(6)])
        self.run(folder, "populate", slots, corpus=documents)
        return folder

    def look(self, folder: Path, **more: Any) -> dict[str, Any]:
        return self.run(folder, "look", DENSE, queries=QUERIES, **more)

    def killed(self, start: Path, do: str, slots: Slots, outcome: str) -> Iterator[Path]:
        """A copy of the folder for each write of what is done there, killed after that write."""
        done = self.run(copied(start, start.with_name("undisturbed")), do, slots)
        assert done["outcome"] == outcome
        for last in range(1, done["writes"] + 1):
            folder = copied(start, start.with_name(str(last)))
            assert self.run(folder, do, slots, last=last)["killed"]
            yield folder

    def made_anew(self, slots: Slots, documents: Sequence[Any] = DOCUMENTS) -> dict[str, Any]:
        """A collection that was populated by these slots and nothing else."""
        key = json.dumps([slots, len(documents)])
        if key not in self._undisturbed:
            folder = self.filled(self._folder / f"anew-{len(self._undisturbed)}", slots, documents)
            self._undisturbed[key] = self.look(folder)
        found: dict[str, Any] = self._undisturbed[key]
        return found


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    processes = Processes()
    yield Workshop(processes, tmp_path_factory.mktemp("anew"))
    processes.close()


def config(slots: Slots) -> dict[str, Any]:
    """With anchors a search explores by them. What the gate measures is not the point here."""
    search = EXPLORING if "scores" in slots else {"retrieve": {"dense": 10}, "limit": 6}
    return {"slots": slots, "search": search, "swap": {"gate": {"sample": 4, "missing": 0, "unmeasured": 1}}}


def swapped(workshop: Workshop, folder: Path, slots: tuple[Slots, Slots]) -> Path:
    before, after = slots
    workshop.filled(folder, before)
    assert workshop.run(folder, "apply", after)["outcome"] == "cut over"
    return folder


def require_alike(found: Mapping[str, Any], expected: Mapping[str, Any], **kept: Any) -> None:
    """All documents have the scores of the live anchors, and of those that are `kept`; the same answers; no rest."""
    assert found["left"] == []
    assert found["anchors"] == {**expected["anchors"], **kept}
    assert found["scores"].keys() == expected["scores"].keys()
    for document, scores in expected["scores"].items():
        assert found["scores"][document] == pytest.approx(scores, abs=1e-6)
    for answer, right in zip(found["answers"], expected["answers"], strict=True):
        assert [hit[0] for hit in answer] == [hit[0] for hit in right]
        assert [hit[1] for hit in answer] == pytest.approx([hit[1] for hit in right], abs=1e-6)
        for (*_, stages), (*_, right_stages) in zip(answer, right, strict=True):
            assert stages == pytest.approx(right_stages, abs=1e-6)


def kept_of(slots: Slots, live: Slots, count: int = len(DOCUMENTS)) -> dict[str, list[int]]:
    """The anchors of an earlier state whose vector the live one does not use."""
    if "scores" not in slots or slots["scores"] == live.get("scores"):
        return {}
    return {"kept": [5 if slots is ONE else 6, count, 0]}


def test_these_collections_differ_in_what_exploring_finds(workshop: Workshop) -> None:
    """Else the tests below could not tell one config from another."""
    answers = [workshop.made_anew(slots)["answers"] for slots in (DENSE, ONE, OTHER, NEARER)]
    ids = [[[hit[0] for hit in answer] for answer in found] for found in answers]
    assert all(one != other for n, one in enumerate(ids) for other in ids[:n])
    assert any("explored" in stages for answer in answers[1] for *_, stages in answer)


@pytest.mark.parametrize("kind", SWAPS)
def test_a_killed_rollback_ends_with_the_anchors_from_before(workshop: Workshop, tmp_path: Path, kind: str) -> None:
    before, after = SWAPS[kind]
    start = swapped(workshop, tmp_path / "start", SWAPS[kind])
    for folder in workshop.killed(start, "rollback", before, "rolled back"):
        if workshop.look(folder)["last"] != "rolled back":  # else another one would go forward again
            assert workshop.run(folder, "rollback", before)["outcome"] == "rolled back"
        require_alike(workshop.look(folder), workshop.made_anew(before), **kept_of(after, before))
    workshop.run(folder, "populate", before, corpus=MORE)
    require_alike(workshop.look(folder), workshop.made_anew(before, MORE), **kept_of(after, before, len(MORE)))
    assert workshop.run(folder, "finish", before)["outcome"] == "finished"
    require_alike(workshop.look(folder), workshop.made_anew(before, MORE))


@pytest.mark.parametrize("kind", SWAPS)
def test_a_killed_finish_ends_with_the_new_anchors_alone(workshop: Workshop, tmp_path: Path, kind: str) -> None:
    _, after = SWAPS[kind]
    start = swapped(workshop, tmp_path / "start", SWAPS[kind])
    for folder in workshop.killed(start, "finish", after, "finished"):
        assert workshop.run(folder, "finish", after)["outcome"] in ("finished", "nothing to finish")
        require_alike(workshop.look(folder), workshop.made_anew(after))
    workshop.run(folder, "populate", after, corpus=MORE)
    require_alike(workshop.look(folder), workshop.made_anew(after, MORE))


@pytest.mark.parametrize("kind", ["anchors are added", "other anchors replace them"])
def test_a_killed_rollback_of_anchors_that_are_half_built_leaves_none_of_them(
    workshop: Workshop, tmp_path: Path, kind: str
) -> None:
    """The first process dies while it scores, the second while it gives up the swap; a finish drops what is left."""
    before, after = SWAPS[kind]
    start = workshop.filled(tmp_path / "start", before)
    assert workshop.run(start, "apply", after, last=12)["killed"]
    assert workshop.look(start)["anchors"]["building"][1:] not in ([0, 24], [24, 0])
    for folder in workshop.killed(start, "rollback", before, "abandoned"):
        if workshop.look(folder)["last"] != "abandoned":
            assert workshop.run(folder, "rollback", before)["outcome"] == "abandoned"
        assert workshop.run(folder, "finish", before)["outcome"] in ("finished", "nothing to finish")
        require_alike(workshop.look(folder), workshop.made_anew(before))


def test_a_killed_build_goes_on_where_it_was(workshop: Workshop, tmp_path: Path) -> None:
    """The command itself, killed after every eighth write and about each change of the metadata."""
    slots = {**DENSE, "scores": {"adapter": "smooth", "anchors": {"texts": "./chosen.txt"}}}
    written = {**config(slots), "store": "edge:./store", "collection": "c", "populate": {"chunk": CHUNK}}
    start, folder = workshop.filled(tmp_path / "start", DENSE), tmp_path / "work"
    (start / "diptych.yaml").write_text(json.dumps(written))

    def command(*arguments: str, **more: Any) -> dict[str, Any]:
        return workshop.run(folder, "command", DENSE, arguments=arguments, **more)

    write_anchors(start / "chosen.txt", [f"word{n} number{n}" for n in range(5)])
    build, kills = ("apply", "--json"), list[bool]()
    copied(start, folder)
    done, right = command(*build), workshop.look(folder)
    assert json.loads(done["out"])["outcome"] == "cut over"
    for last in moments(done, 8):
        shutil.rmtree(folder)
        copied(start, folder)
        kills.append(command(*build, last=last)["killed"])
        vectors = json.loads(command("status", "--json")["out"])["vectors"]
        missing = next((own["missing"] for own in vectors if own["slot"] == "scores"), len(DOCUMENTS))
        assert json.loads(command(*build)["out"])["encoded"].get("scores.1", 0) <= missing + CHUNK
        require_alike(workshop.look(folder), right)
    assert kills.count(True) > len(kills) / 2, "pages may share a checkpoint, so that a run is over some writes earlier"


def moments(done: Mapping[str, Any], step: int) -> list[int]:
    """The writes to die after: every `step`-th, and those about each change of the metadata."""
    about = {moment for mark in done["marks"] for moment in (mark - 1, mark)}
    return sorted({*range(1, done["writes"] + 1, step), *about})


def test_a_killed_copy_has_all_anchors_in_the_end_and_can_be_rolled_back(workshop: Workshop, tmp_path: Path) -> None:
    before, after = SWAPS["other anchors replace them"]
    folder, copy = swapped(workshop, tmp_path / "start", (before, after)), {"store": "copy"}
    done = workshop.run(folder, "copy", after, **copy)
    assert (done["outcome"], done["writes"] > 5) == ("verified", True)
    for last in range(1, done["writes"] + 1):
        shutil.rmtree(folder / "copy")
        assert workshop.run(folder, "copy", after, last=last, **copy)["killed"]
        assert workshop.run(folder, "copy", after, **copy)["outcome"] == "verified"
        require_alike(workshop.look(folder, **copy), workshop.made_anew(after), **kept_of(before, after))
    assert workshop.run(folder, "rollback", before, **copy)["outcome"] == "rolled back"
    assert workshop.run(folder, "finish", before, **copy)["outcome"] == "finished"
    require_alike(workshop.look(folder, **copy), workshop.made_anew(before))
