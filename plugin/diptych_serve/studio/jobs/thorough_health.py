"""The slow part of a collection's health: encoders are compared with its canaries, and the graph with exact search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diptych.collection.collection import Collection
from diptych.collection.pipeline_runs import BATCH, exact, recall_of
from diptych.errors import DiptychError
from diptych.handle.snapshot import View
from diptych.search import Pipeline
from diptych.slots.slot import Slot
from diptych.stores.versions import is_local
from diptych.swap.gate.answers import answers
from diptych.swap.gate.vector_health import Canary, check_canary
from diptych.swap.sample import sample_documents, sample_points
from diptych.types import Query, Run
from diptych_serve.studio.jobs.query_sets import QuerySet
from diptych_serve.studio.jobs.queue import Job

LOADING = 20  # steps of the progress for an encoder, which often has to be loaded
LOW = 0.95  # share of the exact hits below which the graph is worth a look
APPROXIMATE = ("dense", "multivector")  # kinds that are searched by a graph


def checked(collection: Collection, queries: QuerySet | None, sample: int, job: Job) -> dict[str, Any]:
    """The check of each slot, as JSON values.

    Args:
        collection: which is only read.
        queries: what is asked; None for words from a sample of the documents.
        sample: queries at most.
        job: is told the progress.

    Raises:
        CollectionNotFound: nothing has been populated yet.
        JobCancelled: nobody wants it any more.
    """
    view = collection.handle.now()
    job.begin("choosing the queries", None)
    asked = list(queries.queries[:sample]) if queries else _known_items(view, sample)
    job.plan(dict(_stages(view, len(asked))))
    rows = [_slot(view, name, asked, job) for name in view.slots]
    low = [f"{row['name']}: {row['text']}" for row in rows if row["attention"]]
    verdict = "; ".join(low) or f"{_encoders(rows)}; {_graphs(view, rows)}"
    return {"verdict": verdict, "slots": rows, "queries": len(asked)}


def _stages(view: View, queries: int) -> Iterator[tuple[str, int]]:
    """The stages of the check and their steps, a query each."""
    for name, slot in view.slots.items():
        yield _comparing(name), LOADING
        if queries and _has_graph(view, slot):
            yield _exact(name), 2 * queries


def _comparing(name: str) -> str:
    return f"comparing the encoder of {name} with its canaries"


def _exact(name: str) -> str:
    return f"comparing the graph of {name} with exact search"


def _has_graph(view: View, slot: Slot) -> bool:
    return not is_local(view.client) and slot.kind in APPROXIMATE and not slot.anchored


def _encoders(rows: Sequence[dict[str, Any]]) -> str:
    compared = [row["name"] for row in rows if row["canary"] is not None]
    if len(compared) == len(rows):
        return "every encoder makes the vectors it made"
    return f"{', '.join(compared)}: the same vectors as ever" if compared else "no encoder has canaries to compare with"


def _graphs(view: View, rows: Sequence[dict[str, Any]]) -> str:
    if is_local(view.client):
        return "the store has no graph: it reads every vector, so that approximate search can miss nothing"
    if all(row["recall"] is None for row in rows):
        return "no graph was measured"
    return f"every graph finds at least {LOW:.0%} of the exact hits"


def _slot(view: View, name: str, queries: Sequence[Query], job: Job) -> dict[str, Any]:
    """One slot: its encoder's likeness, and the share of the exact hits that its graph finds."""
    job.begin(_comparing(name), None)
    slot, at = view.slots[name], view.search_config.limit
    row: dict[str, Any] = {"name": name, "canary": None, "recall": None, "at": at, "queries": 0, "attention": False}
    said: list[str] = []
    try:
        canaries = _canaries(slot)
        if problems := [canary.problem for canary in canaries if canary.likeness is None]:
            return {**row, "attention": True, "text": "; ".join(problems)}
        if lowest := min((canary.likeness for canary in canaries if canary.likeness is not None), default=None):
            row["canary"] = {"lowest": lowest}
            said.append(f"the encoder makes the same vectors, lowest cosine {lowest:.4f}")
        if is_local(view.client):
            said.append("the store searches exactly")
        elif queries and _has_graph(view, slot):
            recall = _recall(view, name, queries, job)
            row |= {"recall": recall, "queries": len(queries), "attention": recall < LOW}
            said.append(f"its graph finds {recall:.1%} of the exact first {at} of {len(queries)} queries")
            said += ["raise search.params.hnsw_ef, or see diptych tune index"] if recall < LOW else []
    except DiptychError as error:
        row["attention"] = True
        said.append(f"{error.what}: {error.got}" if error.got else error.what)
    return {**row, "text": "; ".join(said) or "nothing to compare"}


def _canaries(slot: Slot) -> list[Canary]:
    """The encoders of documents and of queries, compared now; none where there are no vectors to compare with."""
    gone = slot.asking is not None and slot.asking.drift is not None  # then the other encoder makes documents, too
    encoders = [own for own in (None if gone else slot, slot.asker) if own is not None]
    return [
        check_canary(encoder) for encoder in encoders if encoder.generation is not None and encoder.generation.canaries
    ]


def _recall(view: View, name: str, queries: Sequence[Query], job: Job) -> float:
    at, pipeline = view.search_config.limit, Pipeline.of_slot(name, view.search_config)
    stage = _exact(name)
    job.begin(stage, 2 * len(queries))

    def run(label: str, stages: Pipeline) -> Run:
        hits = []
        for begin in range(0, len(queries), BATCH):
            batch = queries[begin : begin + BATCH]
            hits += answers(view, batch, depth=at, pipeline=stages)  # of all tenants together
            job.advance(stage, len(batch))
        return Run.from_hits(label, queries, hits)

    return recall_of(run("graph", pipeline), run("exact", exact(pipeline)), k=at)


def _known_items(view: View, sample: int) -> list[Query]:
    """Titles or first sentences of some documents, as queries."""
    documents = sample_documents(view, sample_points(view.client, view.name, sample))
    return [Query(document.item, document.id) for document in documents if document.item]
