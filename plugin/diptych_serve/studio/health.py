"""The health of a collection: `health` reads what it records and counts, `checked` compares encoders and graphs now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from qdrant_client import models

from diptych import Collection
from diptych.collection.pipeline_runs import exact
from diptych.config.problems import redacted
from diptych.errors import CollectionNotFound, DiptychError
from diptych.evaluate import ann_recall
from diptych.evaluate.ask import ask
from diptych.handle.snapshot import View
from diptych.metadata.models import Generation
from diptych.metadata.payloads import has_media
from diptych.metadata.store import stored_unread
from diptych.populate.store import lacking
from diptych.reports import UnreadTokens
from diptych.search import Pipeline
from diptych.slots.slot import Slot
from diptych.slots.unread import unread_warnings
from diptych.stores.versions import DiskUse, disk_use, is_local, version_warnings
from diptych.swap import Status, status
from diptych.swap.gate.gate import Canary, check_canary
from diptych.swap.sample import sample_documents, sample_points
from diptych.types import Query, Run
from diptych_serve.studio.evaluations import QuerySet
from diptych_serve.studio.jobs import Job
from diptych_serve.studio.sides import stale_config

LOADING = 20  # steps of the progress for an encoder, which often has to be loaded
LOW = 0.95  # share of the exact hits below which the graph is worth a look
APPROXIMATE = ("dense", "multivector")  # kinds that are searched by a graph

_WIDTHS = {"float16": 2, "uint8": 1}  # bytes of a number; 4 unless it is stored shorter


def health(collection: Collection) -> dict[str, Any]:
    """Who made each vector, what is missing or unread, and what the collection takes, as JSON values."""
    try:
        found = status(collection.handle)
    except CollectionNotFound:
        sentence = "the collection is not filled yet: diptych populate SOURCE"
        return {"documents": 0, "bytes": None, "slots": [], "sentences": [sentence], "config": None}
    metadata = collection.handle.read()
    written = metadata.written()
    unread, used = stored_unread(collection.client, collection.name), disk_use(collection.client, collection.name)
    rows = [
        _row(collection, slot, generation, found, unread.get(vector), used)
        for vector, (slot, generation) in written.items()
    ]
    return {
        "documents": found.documents,
        "bytes": used.total if used else None,
        "slots": rows,
        "sentences": [*_sentences(collection, found, rows, unread)],
        "config": stale_config(collection, metadata),
    }


def _row(
    collection: Collection,
    slot: str,
    generation: Generation,
    found: Status,
    unread: UnreadTokens | None,
    used: DiskUse | None,
) -> dict[str, Any]:
    role = next((vector.role for vector in found.vectors if vector.vector == generation.vector), "live")
    points, missing = _counts(collection, generation, found.documents)
    size, estimated = _bytes(generation, points - missing, used)
    return {
        "name": slot,
        "kind": generation.kind,
        "of": generation.reading.modality,
        "role": role,
        "vector": generation.vector,
        "generation": generation.number,
        "adapter": generation.adapter,
        "options": redacted(generation.options),
        "fingerprint": str(generation.fingerprint),
        "canaries": _canaries(collection, slot, generation),
        "unread": unread.share if unread else None,
        "unread_sentence": str(unread) if unread else "",
        "sampled": unread is not None and unread.sampled,
        "points": points,
        "missing": missing,
        "bytes": size,
        "estimated": estimated,
    }


def _counts(collection: Collection, generation: Generation, documents: int) -> tuple[int, int]:
    """How many documents should have the vector, and how many of them lack it."""
    lack, modality = lacking(generation), generation.reading.modality
    if modality == "text":
        return documents, _count(collection, lack)
    media = has_media(modality)  # documents without media of this kind need no vector
    return _count(collection, media), _count(collection, models.Filter(must=[media, lack]))


def _count(collection: Collection, where: models.Filter) -> int:
    return collection.client.count(collection.name, count_filter=where, exact=True).count


def _bytes(generation: Generation, count: int, used: DiskUse | None) -> tuple[int | None, bool]:
    """What the vectors take: measured on this machine, else estimated for dense ones without their graph."""
    if used is not None:
        known = [used.vectors[name] for name in generation.vectors if name in used.vectors]
        return (sum(known), False) if known else (None, False)
    if generation.kind != "dense" or generation.dimension is None:
        return None, False
    width = _WIDTHS.get(str(generation.storage.get("datatype")), 4)
    return count * width * generation.dimension, True


def _canaries(collection: Collection, slot: str, generation: Generation) -> str:
    """What is known of the encoder's identity, without loading it."""
    if generation.canaries is None:
        return "none recorded" if generation.kind != "text_index" else "none needed: the store indexes the words"
    now = collection.handle.slots.get(slot)
    likeness = now.likeness if now is not None and now.generation == generation else None
    if likeness is None:
        return f"{len(generation.canaries.query)} recorded, compared before the encoder first serves"
    return f"the encoder makes the same vectors: lowest cosine {likeness.lowest:.4f}"


def _sentences(
    collection: Collection, found: Status, rows: list[dict[str, Any]], unread: Mapping[str, UnreadTokens]
) -> Iterator[str]:
    """What a user should look at, each with what to do; one sentence where there is nothing."""
    live = [row for row in rows if row["role"] == "live"]
    said = [
        f"slot {row['name']!r}: {row['missing']:,} of {row['points']:,} documents have no vector, and it does not find "
        "them: diptych apply fills what can be filled"
        for row in live
        if row["missing"]
    ]
    said += unread_warnings({row["name"]: unread[row["vector"]] for row in live if row["vector"] in unread})
    said += [
        f"{vector.vector or vector.slot} misses documents that a populate could not write"
        for vector in found.vectors
        if vector.behind
    ]
    if found.swap:
        said.append("a swap is under way: see its timeline")
    if found.orphans:
        said.append(f"no generation uses {', '.join(found.orphans)}; the next finish, apply or populate drops them")
    kinds = [slot.kind for slot in collection.handle.slots.values()]
    said += version_warnings(collection.client, kinds, tenants=collection.handle.view.tenancy is not None)
    yield from said or ["every document has its vectors, and nothing needs attention"]


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
        canaries = _compared_canaries(slot)
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


def _compared_canaries(slot: Slot) -> list[Canary]:
    """The encoders of documents and of queries, compared now; none where there are no vectors to compare with."""
    encoders = [own for own in (slot, slot.asker) if own is not None]
    return [
        check_canary(encoder) for encoder in encoders if encoder.generation is not None and encoder.generation.canaries
    ]


def _recall(view: View, name: str, queries: Sequence[Query], job: Job) -> float:
    at, pipeline = view.search_config.limit, Pipeline.of_slot(name, view.search_config)
    stage = _exact(name)
    job.begin(stage, 2 * len(queries))

    def run(label: str, stages: Pipeline) -> Run:
        advance = partial(job.advance, stage)
        hits = ask(view, queries, depth=at, pipeline=stages, every_tenant=True, advance=advance)
        return Run.from_hits(label, queries, hits)

    return ann_recall(run("graph", pipeline), run("exact", exact(pipeline)), at)


def _known_items(view: View, sample: int) -> list[Query]:
    """Titles or first sentences of some documents, as queries."""
    documents = sample_documents(view, sample_points(view.client, view.name, sample))
    return [Query(document.item, document.id) for document in documents if document.item]
