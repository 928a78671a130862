"""An apply that is killed, at every write it makes and at random moments, and run again ends as an undisturbed one.

One process, `kill_process.py`, imports everything and is forked for each apply, so that dozens of kills take seconds.
Each child opens the store, applies, and dies by SIGKILL: by its own hand after its n-th write, or by the parent's at a
random moment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from diptych.slots.guard import TEXTS
from diptych_edge import EdgeClient
from killed import CHUNK, Processes, copied, corpus, fake, plain

pytestmark = [pytest.mark.slow(first=True), pytest.mark.skipif(not hasattr(os, "fork"), reason="the tests fork")]


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()


DENSE, OTHER = fake("dense", dimension=16), fake("dense", dimension=24, seed=1, log="log.dense")
LEXICAL, COUNTS = fake("calibrated", dimension=512), fake("calibrated", dimension=256, log="log.lexical")
INDEX: dict[str, Any] = {"adapter": "qdrant-text-index"}
SECOND = fake("dense", dimension=16, seed=5)
STORED = {**SECOND, "storage": {"on_disk": True, "quantization": {"kind": "scalar"}}}
BLURRED = fake("dense", dimension=16, query_prompt="noise " * 50)
CLEAR = fake("dense", dimension=16, document_prompt="text", log="log.dense")
STUDENT = {**DENSE, "query": {"student": "near", "adapter": "pupil", "dimension": 16}}
NEXT = {**OTHER, "query": {"student": "nearer", "adapter": "pupil", "dimension": 24, "seed": 1}}
LONG = [{"id": i, "text": f"{d['text']} word{i % 5} word{i % 7} word{i % 3}"} for i, d in enumerate(corpus(9))]


def few(keep: int) -> dict[str, Any]:
    """A slot that stores at most so many vectors of a document, which has 3 to 6."""
    return fake("multivector", dimension=8, log="log.late", reduce={"kind": "ward", "keep": keep})


@dataclass(frozen=True)
class Case:
    """A swap: the slots before and after, what else its config says, how it is applied, and to how many documents."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    swap: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    documents: Sequence[Mapping[str, Any]] = tuple(corpus(9))
    chunk: int = CHUNK
    checkpoint: float = 0.0  # seconds from one to the next

    def config(self, slots: Mapping[str, Any]) -> dict[str, Any]:
        """What the processes are given; what the gate measures is not the point here."""
        swap = {"gate": {"sample": 4, "unmeasured": 1}, **self.swap}
        return {"slots": slots, "populate": {"chunk": self.chunk}, "swap": swap, "search": self.search}


SWAPS: dict[str, Case] = {
    "both encoders change": Case({"dense": DENSE, "lexical": LEXICAL}, {"dense": OTHER, "lexical": COUNTS}),
    "no checkpoint but the first and the last": Case({"dense": DENSE}, {"dense": OTHER}, checkpoint=3600.0),
    "both change side by side": Case(
        {"dense": DENSE, "lexical": LEXICAL}, {"dense": OTHER, "lexical": COUNTS}, swap={"parallel": True}
    ),
    "a text index becomes a sparse vector": Case(
        {"dense": DENSE, "lexical": INDEX}, {"dense": DENSE, "lexical": COUNTS}
    ),
    "a sparse vector becomes a text index": Case(
        {"dense": DENSE, "lexical": LEXICAL}, {"dense": DENSE, "lexical": INDEX}
    ),
    "a slot is added and one dropped": Case(
        {"dense": DENSE, "lexical": LEXICAL},
        {"dense": DENSE, "late": fake("multivector", dimension=8, log="log.late")},
    ),
    "storage of a slot changes along": Case({"dense": DENSE, "second": SECOND}, {"dense": OTHER, "second": STORED}),
    "the texts come from the source": Case(
        {"dense": DENSE}, {"dense": OTHER}, options={"source": [{**d, "text": f"{d['text']} whole"} for d in corpus(9)]}
    ),
    "queries switch at once": Case(
        {"dense": BLURRED},
        {"dense": CLEAR},
        options={"switch_queries": True, "judged": corpus(9), "ignore_gate": True},  # nine queries decide nothing
    ),
    "a student takes over the queries": Case({"dense": DENSE}, {"dense": STUDENT}),
    "a student returns the queries": Case({"dense": STUDENT}, {"dense": DENSE}),
    "a new encoder comes with its student": Case({"dense": STUDENT}, {"dense": NEXT}),
    "fewer vectors of a document": Case({"late": few(4)}, {"late": few(2)}, documents=LONG),
}
QUERIES_ONLY = ("a student takes over the queries", "a student returns the queries")  # no document is encoded again
OFTEN = {"storage of a slot changes along", "a student takes over the queries"}


def cases(*kinds: str) -> list[Any]:
    """Kinds of swaps as parameters, of which all but a few are for the long run."""
    return [pytest.param(kind, marks=() if kind in OFTEN else pytest.mark.long) for kind in kinds]


def filled(processes: Processes, folder: Path, case: Case) -> Path:
    folder.mkdir()
    processes.run(folder, "populate", case.config(case.before), corpus=case.documents)
    if any("query" in slot for slot in case.before.values()):  # an apply admits the student
        for step, outcome in (("apply", "cut over"), ("finish", "finished")):
            assert processes.run(folder, step, case.config(case.before))["outcome"] == outcome
    return folder


def encoded(folder: Path) -> dict[str, list[str]]:
    """The documents that the new encoders read, by slot."""
    logs = {path.suffix[1:]: path.read_text().splitlines() for path in folder.glob("log.*")}
    calls = {name: [json.loads(line) for line in lines] for name, lines in logs.items()}
    return {
        name: [text for call in own if call["side"] == "document" for text in call["inputs"] if text not in TEXTS]
        for name, own in calls.items()
    }


def state(folder: Path, store: str = "store") -> Any:
    """All that the store keeps: points with payloads and vectors, the schema, and the metadata."""
    with EdgeClient(folder / store) as client:
        points, _ = client.scroll("c", limit=10_000, with_vectors=True)
        info = client.get_collection("c")
        params = info.config.params
    metadata = {key: value for key, value in (info.config.metadata or {}).items() if value is not None}
    vectors = {point.id: plain(point.vector) for point in points}
    payloads = {point.id: point.payload for point in points}
    return vectors, payloads, sorted(info.payload_schema), repr(params), _timeless(metadata)


def _timeless(metadata: dict[str, Any]) -> str:
    """Without times, and what a gate measured where neighbours tie."""
    own = metadata["diptych"]
    events = [{**event, "gate": bool(event["gate"])} for event in own["history"]]
    told = json.dumps({**metadata, "diptych": {**own, "history": events}}, sort_keys=True)
    return re.sub(r'"(when|began)": "[^"]*"', "", told)


def applied(processes: Processes, folder: Path, case: Case, **more: Any) -> dict[str, Any]:
    more = {"options": case.options, "checkpoint": case.checkpoint, **more}
    return processes.run(folder, "apply", case.config(case.after), **more)


def finished(processes: Processes, folder: Path, case: Case) -> None:
    """Applied once more, to the end."""
    assert applied(processes, folder, case)["outcome"] in ("cut over", "nothing to do")


def moments(done: Mapping[str, Any], step: int, first: int) -> list[int]:
    """The writes to die after: every `step`-th, and those about each change of the metadata."""
    about = {moment for mark in done["marks"] for moment in (mark - 1, mark)}
    return sorted({*range(1 + first % step, done["writes"] + 1, step), *about})


@pytest.mark.parametrize("kind", cases(*SWAPS))
def test_an_apply_killed_after_any_of_its_writes_ends_as_an_undisturbed_one(
    processes: Processes, tmp_path: Path, kind: str
) -> None:
    case = SWAPS[kind]
    step = len(case.documents) // 2 if kind in OFTEN else 1
    start = filled(processes, tmp_path / "start", case)
    undisturbed = copied(start, tmp_path / "undisturbed")
    done = applied(processes, undisturbed, case)
    expected, calls = state(undisturbed), encoded(undisturbed)
    least = 5 if kind in QUERIES_ONLY else 9
    assert (done["outcome"], done["writes"] >= least) == ("cut over", True)
    kills = list[bool]()
    for last in moments(done, step, len(kind)):
        folder = copied(start, tmp_path / str(last))
        kills.append(bool(applied(processes, folder, case, last=last)["killed"]))
        finished(processes, folder, case)
        assert state(folder) == expected, f"killed after write {last} of {done['writes']}"
        for slot, texts in calls.items():
            most = len(texts) if case.checkpoint else case.chunk  # that are encoded again
            assert len(encoded(folder)[slot]) <= len(texts) + most, f"{slot}, killed after write {last}"
        shutil.rmtree(folder)
    assert kills.count(False) <= 3, "pages may share a checkpoint, so that a run is over some writes earlier"


@pytest.mark.parametrize(
    "kind",
    cases(
        "a slot is added and one dropped",
        "storage of a slot changes along",
        "queries switch at once",
        *QUERIES_ONLY,
        "a new encoder comes with its student",
        "fewer vectors of a document",
    ),
)
def test_an_apply_killed_after_any_of_its_writes_can_be_given_up(
    processes: Processes, tmp_path: Path, kind: str
) -> None:
    case = SWAPS[kind]
    start = filled(processes, tmp_path / "start", case)
    undisturbed = copied(start, tmp_path / "undisturbed")
    done = applied(processes, undisturbed, case)
    expected = answering(start)
    kills = list[bool]()
    for last in moments(done, len(case.documents) // 2, len(kind) + 2):
        folder = copied(start, tmp_path / str(last))
        kills.append(bool(applied(processes, folder, case, last=last)["killed"]))
        assert processes.run(folder, "rollback", {"slots": case.before})["outcome"] in WAYS_OUT
        assert answering(folder) == expected, f"killed after write {last} of {done['writes']}"
        shutil.rmtree(folder)
    assert kills.count(False) <= 3, "pages may share a checkpoint, so that a run is over some writes earlier"


@pytest.mark.parametrize(
    "kind", cases(*QUERIES_ONLY, "a new encoder comes with its student", "fewer vectors of a document")
)
def test_a_collection_whose_apply_was_killed_answers_as_before_or_as_after(
    processes: Processes, tmp_path: Path, kind: str
) -> None:
    case = SWAPS[kind]
    start = filled(processes, tmp_path / "start", case)
    undisturbed = copied(start, tmp_path / "undisturbed")
    done = applied(processes, undisturbed, case)
    before, after = (answers(processes, folder) for folder in (start, undisturbed))
    assert before != after
    found = list[Any]()
    beyond = done["writes"] + 4  # where pages shared a checkpoint, other runs make some writes more
    for last in (*moments(done, 4, len(kind)), beyond):
        folder = copied(start, tmp_path / str(last))
        assert applied(processes, folder, case, last=last)["killed"] or last > done["writes"] - 3
        found.append(answers(processes, folder))
        shutil.rmtree(folder)
    assert found == sorted(found, key=[before, after].index), "once it has changed, it stays"
    assert (found[0], found[-1]) == (before, after)


def answers(processes: Processes, folder: Path, **more: Any) -> Any:
    """Ids and scores that the live slots give, whatever the config that is to come."""
    found: Any = processes.run(folder, "look", {"slots": {"dense": DENSE}}, queries=QUERIES, **more)["answers"]
    return found


def assert_alike(found: Any, expected: Any) -> None:
    """The same ids and scores; a store orders hits of equal scores in its own way."""
    for answer, right in zip(found, expected, strict=True):
        scores = {document: score for document, score, _ in right}
        assert {document: score for document, score, _ in answer} == pytest.approx(scores, abs=1e-5)


QUERIES = ("word3 number5", "word0 word2 number8")


@pytest.mark.parametrize(
    "kind",
    [
        "a new encoder comes with its student",
        "fewer vectors of a document",
        pytest.param("a reranker scores anchors", marks=pytest.mark.long),
    ],
)
def test_a_killed_copy_ends_as_its_source_and_can_be_rolled_back(
    processes: Processes, tmp_path: Path, kind: str
) -> None:
    case, own = SWAPS[kind], {"store": "copy"}
    start = filled(processes, tmp_path / "start", case)
    before = answers(processes, start)
    finished(processes, start, case)
    after = answers(processes, start)
    done = processes.run(start, "copy", {"slots": case.after}, **own)
    assert (done["outcome"], done["writes"] > 4) == ("verified", True)
    for last in range(1, done["writes"] + 1):
        shutil.rmtree(start / "copy")
        assert processes.run(start, "copy", {"slots": case.after}, last=last, **own)["killed"]
        assert processes.run(start, "copy", {"slots": case.after}, **own)["outcome"] == "verified"
        assert _points(state(start, "copy")) == _points(state(start)), f"killed after write {last}"
        assert_alike(answers(processes, start, **own), after)
    assert processes.run(start, "rollback", {"slots": case.before}, **own)["outcome"] == "rolled back"
    assert_alike(answers(processes, start, **own), before)


WAYS_OUT = ("abandoned", "rolled back", "there is nothing to roll back to")
AGAIN = ("rolled back", "finished", "nothing to finish")  # the last where the killed step was complete


@pytest.mark.parametrize("step", ["rollback", "finish"])
@pytest.mark.parametrize(
    "kind",
    cases(
        "a text index becomes a sparse vector",
        "storage of a slot changes along",
        "a new encoder comes with its student",
        "fewer vectors of a document",
    ),
)
def test_a_step_back_killed_after_any_of_its_writes_can_be_taken_again(
    processes: Processes, tmp_path: Path, kind: str, step: str
) -> None:
    """A rollback that had happened is not repeated, which would go forward again; finish can always be repeated."""
    case = SWAPS[kind]
    start = filled(processes, tmp_path / "start", case)
    finished(processes, start, case)
    undisturbed = copied(start, tmp_path / "undisturbed")
    done = processes.run(undisturbed, step, {"slots": case.before})
    expected = state(undisturbed)
    for last in range(1, done["writes"] + 1):
        folder = copied(start, tmp_path / str(last))
        assert processes.run(folder, step, {"slots": case.before}, last=last)["killed"]
        if step == "finish" or not _metadata(folder)["history"][-1]["what"].startswith("rolled"):
            assert processes.run(folder, step, {"slots": case.before})["outcome"] in AGAIN
        assert _points(state(folder)) == _points(expected), f"killed after write {last} of {done['writes']}"
        shutil.rmtree(folder)


def test_an_apply_of_storage_alone_killed_after_any_of_its_writes_is_completed_or_undone(
    processes: Processes, tmp_path: Path
) -> None:
    """The storage is changed in place before the gate: the next apply goes on, or puts it back as its config says."""
    case = Case({"second": SECOND}, {"second": STORED})
    start = filled(processes, tmp_path / "start", case)
    undisturbed = copied(start, tmp_path / "undisturbed")
    done = applied(processes, undisturbed, case)
    expected, before = state(undisturbed), answering(start)
    assert (done["outcome"], done["writes"] >= 4) == ("changed settings", True)
    for last in range(1, done["writes"] + 1):
        for config, right in ((case.after, expected), (case.before, before)):
            folder = copied(start, tmp_path / f"{last}")
            assert applied(processes, folder, case, last=last)["killed"]
            assert processes.run(folder, "apply", case.config(config))["outcome"] in SETTLED
            found = state(folder) if right is expected else answering(folder)
            assert found == right, f"killed after write {last} of {done['writes']}"
            shutil.rmtree(folder)


SETTLED = ("changed settings", "nothing to do")


def answering(folder: Path) -> Any:
    """What answers: the live slots, who makes their queries, their vectors and how they are stored."""
    live, (vectors, payloads, _, _, _) = _metadata(folder)["live"], state(folder)
    names = {own["vector"] for own in live["slots"].values()}
    with EdgeClient(folder / "store") as client:
        params = client.get_collection("c").config.params
    stored = {**(params.vectors if isinstance(params.vectors, dict) else {}), **(params.sparse_vectors or {})}
    kept = {point: {name: own[name] for name in names if name in own} for point, own in vectors.items()}
    texts = {point: {key: own.get(key) for key in ("text", *names)} for point, own in payloads.items()}
    # Once it was set, a place can only be set to what it was by default, not be unset.
    return (
        live,
        kept,
        texts,
        {name: repr(stored.get(name)).replace("on_disk=False", "on_disk=None") for name in names},
    )


def _metadata(folder: Path) -> dict[str, Any]:
    with EdgeClient(folder / "store") as client:
        found: dict[str, Any] = (client.get_collection("c").config.metadata or {})["diptych"]
    return found


def _points(found: Any) -> Any:
    return found[:4]
