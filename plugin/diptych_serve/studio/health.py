"""The health of a collection: `health` reads what it records and counts, `checked` compares encoders and graphs now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from diptych import Collection
from diptych.collection.pipeline_runs import exact
from diptych.config.problems import redacted
from diptych.errors import CollectionNotFound, DiptychError
from diptych.evaluate import ann_recall, ask
from diptych.handle.snapshot import View
from diptych.metadata.models import Generation
from diptych.metadata.store import stored_unread
from diptych.reports import UnreadTokens
from diptych.search import Pipeline
from diptych.slots.unread import unread_warnings
from diptych.stores.versions import DiskUse, disk_use, is_local, version_warnings
from diptych.swap import Status, VectorStatus, status
from diptych.swap.gate.gate import check_canary
from diptych.swap.sample import sample_documents, sample_points
from diptych.types import Query, Run
from diptych_serve.studio.answers import CheckedSlot, CheckResult, HealthAnswer, SlotHealth
from diptych_serve.studio.jobs import Job
from diptych_serve.studio.sides import stale_config

SAMPLE = 50  # documents whose words are the queries of a check
LOW = 0.95  # share of the exact hits below which the graph is worth a look
APPROXIMATE = ("dense", "multivector")  # kinds that are searched by a graph

_WIDTHS = {"float16": 2, "uint8": 1}  # bytes of a number; 4 unless it is stored shorter


def health(collection: Collection) -> HealthAnswer:
    """Who made each vector, what is missing or unread, and what the collection takes."""
    try:
        found = status(collection.handle)
    except CollectionNotFound:
        return HealthAnswer(sentences=["the collection is not filled yet: diptych populate SOURCE"])
    metadata = collection.handle.read()
    written = metadata.written()
    unread, used = stored_unread(collection.client, collection.name), disk_use(collection.client, collection.name)
    rows = [
        _row(collection, vector, written[vector.vector][1], unread.get(vector.vector), used) for vector in found.vectors
    ]
    return HealthAnswer(
        documents=found.documents,
        bytes=used.total if used else None,
        slots=rows,
        sentences=_sentences(collection, found, rows, unread),
        config=stale_config(collection, metadata),
    )


def _row(
    collection: Collection,
    vector: VectorStatus,
    generation: Generation,
    unread: UnreadTokens | None,
    used: DiskUse | None,
) -> SlotHealth:
    size, estimated = _bytes(generation, vector.points - vector.missing, used)
    return SlotHealth(
        name=vector.slot,
        role=vector.role,
        vector=vector.vector,
        adapter=vector.adapter,
        options=redacted(generation.options),
        fingerprint=vector.fingerprint,
        canaries=_canaries(collection, vector.slot, generation),
        unread=unread.share if unread else None,
        unread_sentence=str(unread) if unread else "",
        sampled=unread is not None and unread.sampled,
        points=vector.points,
        missing=vector.missing,
        bytes=size,
        estimated=estimated,
    )


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
    collection: Collection, found: Status, rows: Sequence[SlotHealth], unread: Mapping[str, UnreadTokens]
) -> list[str]:
    """What a user should look at, each with what to do; one sentence where there is nothing."""
    live = [row for row in rows if row.role == "live"]
    said = [
        f"slot {row.name!r}: {row.missing:,} of {row.points:,} documents have no vector, and it does not find them: "
        "diptych apply fills what can be filled"
        for row in live
        if row.missing
    ]
    said += unread_warnings({row.name: unread[row.vector] for row in live if row.vector in unread})
    behind = [vector.vector or vector.slot for vector in found.vectors if vector.behind]
    said += [f"{name} misses documents that a populate could not write" for name in behind]
    if found.swap:
        said.append("a swap is under way: see its timeline")
    if found.orphans:
        said.append(f"no generation uses {', '.join(found.orphans)}; the next finish, apply or populate drops them")
    kinds = [slot.kind for slot in collection.handle.slots.values()]
    said += version_warnings(collection.client, kinds, tenants=collection.handle.view.tenancy is not None)
    return said or ["every document has its vectors, and nothing needs attention"]


def checked(collection: Collection, job: Job) -> CheckResult:
    """The check of each slot, by words from a sample of the documents.

    Args:
        collection: which is only read.
        job: is told the progress.

    Raises:
        CollectionNotFound: nothing has been populated yet.
        JobCancelled: nobody wants it any more.
    """
    view = collection.handle.now()
    job.begin("choosing the queries", None)
    documents = sample_documents(view, sample_points(view.client, view.name, SAMPLE))
    asked = [Query(document.item, document.id) for document in documents if document.item]
    rows = [_checked(view, name, asked, job) for name in view.slots]
    low = [f"{row.name}: {row.text}" for row in rows if row.attention]
    compared = [row.name for row in rows if row.likeness is not None]
    encoders = f"{', '.join(compared)}: the same vectors as ever" if compared else "no encoder has canaries to compare"
    if len(compared) == len(rows):
        encoders = "every encoder makes the vectors it made"
    graphs = f"every graph finds at least {LOW:.0%} of the exact hits"
    if is_local(view.client):
        graphs = "the store has no graph: it reads every vector, so that approximate search can miss nothing"
    elif all(row.recall is None for row in rows):
        graphs = "no graph was measured"
    return CheckResult(verdict="; ".join(low) or f"{encoders}; {graphs}", slots=rows, queries=len(asked))


def _checked(view: View, name: str, queries: Sequence[Query], job: Job) -> CheckedSlot:
    """One slot: its encoder's likeness, and the share of the exact hits that its graph finds."""
    job.begin(f"comparing the encoder of {name} with its canaries", None)
    slot, at = view.slots[name], view.search_config.limit
    row, said = CheckedSlot(name=name, at=at), list[str]()
    try:
        encoders = [own for own in (slot, slot.asker) if own is not None]
        canaries = [check_canary(own) for own in encoders if own.generation is not None and own.generation.canaries]
        if problems := [canary.problem for canary in canaries if canary.likeness is None]:
            row.attention, row.text = True, "; ".join(problems)
            return row
        row.likeness = min((canary.likeness for canary in canaries if canary.likeness is not None), default=None)
        if row.likeness:
            said.append(f"the encoder makes the same vectors, lowest cosine {row.likeness:.4f}")
        if is_local(view.client):
            said.append("the store searches exactly")
        elif queries and slot.kind in APPROXIMATE:
            recall = row.recall = _recall(view, name, queries, job)
            row.queries, row.attention = len(queries), recall < LOW
            said.append(f"its graph finds {recall:.1%} of the exact first {at} of {len(queries)} queries")
            said += ["raise search.params.hnsw_ef, or see diptych tune index"] if recall < LOW else []
    except DiptychError as error:
        row.attention = True
        said.append(f"{error.what}: {error.got}" if error.got else error.what)
    row.text = "; ".join(said) or "nothing to compare"
    return row


def _recall(view: View, name: str, queries: Sequence[Query], job: Job) -> float:
    at, pipeline = view.search_config.limit, Pipeline.of_slot(name, view.search_config)
    stage = f"comparing the graph of {name} with exact search"
    job.begin(stage, 2 * len(queries))

    def run(label: str, stages: Pipeline) -> Run:
        advance = partial(job.advance, stage)
        hits = ask(view, queries, depth=at, pipeline=stages, every_tenant=True, advance=advance)
        return Run.from_hits(label, queries, hits)

    return ann_recall(run("graph", pipeline), run("exact", exact(pipeline)), at)
