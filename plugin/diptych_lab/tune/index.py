"""`tune_index`: indexes a sample of a collection's vectors with many settings and measures each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias, get_args

import numpy as np

from diptych.config.models import VectorStorage
from diptych.errors import TuneError
from diptych.evaluate import ann_recall
from diptych.evaluate.ask import times
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.runtime.phases import Progress, Unwatched
from diptych.slots.slot import Slot
from diptych.types import Run
from diptych_lab.tune import choose
from diptych_lab.tune.grid import Setup, grid
from diptych_lab.tune.reports import IndexReport, Row
from diptych_lab.tune.sample import Sample, draw
from diptych_lab.tune.scratch_collections import Built, Scratch
from diptych_lab.tune.slot_candidates import Doubles

SAMPLE, HELD_OUT, ROUNDS = 10_000, 200, 3


def tune_index(
    handle: CollectionHandle | View,
    slot: str | None = None,
    *,
    setups: Sequence[Setup] | None = None,
    prefixes: Sequence[int] | None = None,
    queries: Sequence[str] = (),
    sample: int = SAMPLE,
    points: int | None = None,
    k: int = 10,
    rule: Rule | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> IndexReport:
    """Measure recall against exact search, latency and bytes of each setup on a sample of the slot's own vectors.

    The collection is only read. The sample is written to an embedded store in a temporary folder, once for each way of
    storing it; each query is put to all setups, in an order that changes, so that a busy moment touches them alike.

    Args:
        handle: the open collection.
        slot: a dense one; the only one unless given.
        setups: what is measured beside what the collection has; `grid` unless given.
        prefixes: dimensions of first stages in that grid.
        queries: texts that the slot's encoder encodes; 200 of the sampled vectors are held out unless given.
        sample: vectors that are indexed at most.
        points: measure as in a collection that holds so many; as many as it holds unless given.
        k: of the recall.
        rule: what is chosen.
        rounds: how often each query runs with each setup.
        seed: of the division into documents and queries.
        progress: receives the progress of the stages `read`, `build` and `ask`.

    Raises:
        TuneError: the slot is not dense, has too few vectors, or there is none to choose.
        CollectionNotFound: nothing has been populated yet.
    """
    view, watching, chosen_by = handle.now(), progress or Unwatched(), rule or Rule()
    tuned_slot = slot_to_tune(view, slot)
    drawn_sample = draw(view, tuned_slot, size=sample, held_out=HELD_OUT, texts=queries, seed=seed, progress=watching)
    default_setups = grid(drawn_sample.documents.shape[1], whole_numbers=drawn_sample.whole_numbers, prefixes=prefixes)
    tried_setups = _with_now(view, tuned_slot, default_setups if setups is None else setups)
    with Scratch(drawn_sample, points or drawn_sample.points) as scratch:
        rows = _Measuring(scratch, drawn_sample, k, rounds, watching).rows(tried_setups)
    rows = sorted(with_front(rows), key=lambda row: (row.memory, row.p50))
    best, reached = chosen_by.choose(rows)
    return IndexReport(
        collection=view.name,
        slot=tuned_slot.name,
        dimension=drawn_sample.documents.shape[1],
        similarity=drawn_sample.similarity,
        points=drawn_sample.points,
        as_of=points or drawn_sample.points,
        sample=len(drawn_sample.documents),
        queries=len(drawn_sample.queries),
        held_out=drawn_sample.held_out,
        k=k,
        rows=tuple(rows),
        chosen=best,
        rule=str(chosen_by),
        reached=reached,
    )


class _Measuring:
    """Builds each storage once, then sends the queries."""

    def __init__(self, scratch: Scratch, sample: Sample, k: int, rounds: int, progress: Progress) -> None:
        self._scratch, self._sample, self._k, self._rounds, self._progress = scratch, sample, k, rounds, progress
        self._queries = [row.tolist() for row in sample.queries]

    def rows(self, setups: Sequence[Setup]) -> list[Row]:
        """A row for each setup."""
        storages = list(dict.fromkeys(_key(setup) for setup in setups))
        self._progress.begin("build", len(storages))
        collections = {}
        for key in storages:
            collections[key] = self._scratch.build(VectorStorage.model_validate_json(key))
            self._progress.advance("build", 1)
        pairs = [(setup, collections[_key(setup)]) for setup in setups]
        answers, measured = self._measure(pairs)
        truth = self._sample.exact(2 * self._k)
        count = len(self._sample.documents)
        rows = []
        for (setup, scratch_collection), run, milliseconds in zip(pairs, answers, measured, strict=True):
            p50, p95 = np.percentile(milliseconds, (50, 95))
            recall = ann_recall(run, truth, self._k)
            rows.append(
                Row(
                    setup,
                    recall,
                    float(p50),
                    float(p95),
                    scratch_collection.memory / count,
                    scratch_collection.disk / count,
                    scratch_collection.seconds,
                )
            )
        return rows

    def _measure(self, pairs: Sequence[tuple[Setup, Built]]) -> tuple[list[Run], Doubles]:
        """For each setup the answers, and the milliseconds of each query in each round; one more round warms up."""
        rankings: list[dict[str, list[tuple[str, float]]]] = [{} for _ in pairs]

        def ask(place: int, number: int) -> None:
            setup, scratch_collection = pairs[place]
            answer = self._scratch.ask(scratch_collection, self._queries[number], setup, self._k)
            rankings[place][str(number)] = answer

        count = len(self._queries)
        self._progress.begin("ask", self._rounds * count)
        advance = partial(self._progress.advance, "ask")
        measured = times(ask, range(len(pairs)), range(count), rounds=self._rounds, warm_up=count, advance=advance)
        return [Run(setup.stored, ranking) for (setup, _), ranking in zip(pairs, rankings, strict=True)], measured


def _key(setup: Setup) -> str:
    """What must be built for it, as text; the number of first-stage candidates is only a search setting."""
    return setup.storage.model_dump_json(exclude_none=True, exclude={"first_stage": {"oversampling"}})


def slot_to_tune(view: View, name: str | None) -> Slot:
    """The slot of this name; without one the only dense slot.

    Raises:
        TuneError: it is not clear which.
    """
    if name is not None:
        return view.slot(name)
    dense = [slot for slot in view.slots.values() if slot.kind == "dense" and not slot.anchored]
    if len(dense) == 1:
        return dense[0]
    raise TuneError(
        "which slot is to be tuned?" if dense else "the collection has no dense slot",
        where=f"collection {view.name!r}",
        got=", ".join(f"{slot.name} ({slot.kind})" for slot in view.slots.values()),
        do="name one: --slot NAME" if dense else "",
    )


def _with_now(view: View, slot: Slot, setups: Sequence[Setup]) -> list[Setup]:
    """The setups, with that of the collection itself first."""
    storage = slot.generation.storage if slot.generation else {}
    now = Setup(VectorStorage.model_validate(storage), view.search_config.params, now=True)
    return [now, *(setup for setup in setups if replace(setup, now=True) != now)]


# Which rows are worth a look, and which one to take.


Least: TypeAlias = Literal["memory", "latency", "disk"]
LEAST: tuple[Least, ...] = get_args(Least)


@dataclass(frozen=True, slots=True)
class Rule:
    """Chooses, among rows with enough recall, the one with the least of something; among equals the fastest.

    Raises:
        TuneError: an invalid recall, or an unknown quantity.
    """

    recall: float = 0.98
    least: Least = "memory"

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise TuneError("the recall is out of range", got=self.recall, expected="more than 0, at most 1")
        if self.least not in LEAST:
            raise TuneError("there is no such measure", got=self.least, expected=", ".join(LEAST))

    def choose(self, rows: Sequence[Row]) -> tuple[Row, bool]:
        """The row, and whether it has the recall; if none has, the one that comes closest."""
        fitting = [row for row in rows if row.recall >= self.recall]
        if not fitting:
            return max(rows, key=lambda row: (row.recall, -row.p50)), False
        return min(fitting, key=lambda row: (self._cost(row), row.p50)), True

    def __str__(self) -> str:
        return f"least {self.least} with a recall of {self.recall:g} or more"

    def _cost(self, row: Row) -> float:
        return {"memory": row.memory, "latency": row.p50, "disk": row.disk}[self.least]


def with_front(rows: Sequence[Row]) -> list[Row]:
    """The rows, each marked if it is on the Pareto front of recall, p50 and memory."""
    return choose.with_front(rows, lambda row: (-row.recall, row.p50, row.memory))
