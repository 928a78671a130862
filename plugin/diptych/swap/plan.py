"""`plan`: what `apply` would do and cost; changes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from diptych.config.models import Config, SearchConfig
from diptych.config.storage import Stored
from diptych.display import Display, Displayed, Mood, Table, duration, size
from diptych.errors import MediaError, RegistryError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import describes, lost_modalities, reading_of, stored_search, with_stored_default
from diptych.metadata.models import CollectionMetadata
from diptych.metadata.payloads import has_media
from diptych.populate.pace import pace_warnings
from diptych.populate.store import lacking, reference_warnings
from diptych.protocols import Calibrated
from diptych.reports import UnreadTokens
from diptych.runtime.phases import phase
from diptych.slots.encode import SAMPLE, Input, Vector, encode, inputs_of_documents
from diptych.slots.slot import Slot
from diptych.slots.unread import (
    MOST_UNREAD,
    PASSAGE,
    PER_CHARACTER,
    sampled_unread,
    text_advice,
    unfit_slots,
    unread_warnings,
    vocabulary_warnings,
)
from diptych.stores.server_errors import needs_answers
from diptych.stores.versions import version_warnings
from diptych.swap.changes import ENCODES, SWAPS, Action, Change, changes, compared, named, spread_warnings
from diptych.swap.gate.answers import searched_otherwise
from diptych.swap.gate.decision import stale_threshold
from diptych.swap.gate.judged import Judged
from diptych.swap.vectors import coverage
from diptych.types import Document

WARM_UP = 8  # documents that warm the encoder up before the sample is timed
PASSAGES_FROM = 100_000  # characters of a sample that is read whole; a plan should not take minutes

_BYTES = {"float16": 2, "uint8": 1}
_LINKS = 2 * 16 * 4  # bytes of a point in the graph at Qdrant's default m = 16

ACTIONS = {  # in the words of docs/swap.md; the keys are what `plan --json` and notebooks have always said
    "add": "add",
    "drop": "drop",
    "re-encode": "re-encode",
    "recalibrate": "recalibrate",
    "reuse": "use kept vectors",
    "re-prompt": "queries only",
    "storage": "storage only",
    "numerics": "settings only",
    "keep": "as it is",
}
SEARCH = "search: programs that open this config use these settings already, all others after diptych apply"

POINTS_READ = 1000  # points without a vector that are read to estimate how many of them have a text
SHORT = 128  # tokens that every reranker reads: for shorter documents none is loaded
UNCHANGED: tuple[Action, ...] = ("numerics", "keep")  # leave vectors and answers as they are


@dataclass(frozen=True, slots=True)
class Step:
    """One slot of a plan.

    Args:
        slot: the slot's name.
        action: see `Change.action`.
        why: what differs.
        live: adapter and model that answer now; empty for a new slot.
        wanted: adapter and model of the config; empty for a dropped slot.
        points: documents whose vectors, storage or scores change.
        encode: those of them for which a vector is made; for a text index, a copy of the text.
        rate: documents a second in the sample; None if nothing is encoded.
        seconds: estimate of the encoding.
        passages: of a document, in the sample's mean; None where the slot has none, or nothing is encoded.
        disk, memory: additional bytes until `finish`, estimated from the sample; memory excludes what is on disk only.
        likeness: lowest cosine between canaries by the config's encoder and as stored; None if not compared.
        unread: what the config's encoder does not read of the sample; None if it reads everything, or that is unknown.
    """

    slot: str
    action: Action
    why: str
    live: str
    wanted: str
    points: int = 0
    encode: int = 0
    rate: float | None = None
    seconds: float = 0.0
    disk: int = 0
    memory: int = 0
    passages: float | None = None
    likeness: float | None = None
    unread: UnreadTokens | None = None


@dataclass(frozen=True, slots=True)
class Plan(Displayed):
    """What applying a config would change and cost.

    Args:
        collection: its name.
        documents: points it holds.
        steps: one for each slot.
        search: whether the search settings differ, for which nothing is encoded.
        search_why: what differs in them.
        under_way: whether a swap has begun and has not cut over.
        warnings: sentences to read before applying.
        gated: whether `apply` has vectors, queries, storage or a pipeline to compare with the live ones.
        loading, gate: estimates, in seconds, of loading and checking the encoders, and of the gate; 0 where nothing is
            encoded.
    """

    collection: str
    documents: int
    steps: tuple[Step, ...]
    search: bool = False
    search_why: str = ""
    under_way: bool = False
    warnings: tuple[str, ...] = ()
    gated: bool = False
    loading: float = 0.0
    gate: float = 0.0

    @property
    def pending(self) -> bool:
        """Whether `apply` has something to do."""
        return self.search or self.under_way or any(step.action != "keep" or step.encode for step in self.steps)

    @property
    def seconds(self) -> float:
        """Estimated time of `apply`: loading, all encoding, one slot after another, and the gate."""
        return self.loading + self.encoding + self.gate

    @property
    def encoding(self) -> float:
        """Estimated time of all encoding."""
        return sum(step.seconds for step in self.steps)

    def display(self) -> Display:
        """What an apply would do in each slot, and what it would cost."""
        estimated = any(step.rate for step in self.steps)
        width = 7 if estimated else 4
        names = ("slot", "change", "documents", "encode", "time", "disk", "memory")[:width]
        rows = list[tuple[str, ...]]()
        for step in self.steps:
            counts = (f"{count:,}" if count else "" for count in (step.points, step.encode))
            costs = (duration(step.seconds), f"+{size(step.disk)}", f"+{size(step.memory)}")
            rows.append((step.slot, change_of(step), *counts, *(costs if step.rate else ("", "", "")))[:width])
        parts = {"loading": self.loading, "encoding": self.encoding, "the gate": self.gate}
        times = ", ".join(f"{part} {duration(seconds)}" for part, seconds in parts.items() if seconds)
        estimate = [f"estimated from a sample on this machine: {times}"] if estimated else []
        head = f"{self.collection}: {self.documents:,} documents; {_next(self)}"
        mood: Mood = "warning" if self.warnings else "" if self.pending else "neutral"
        return Display(head, [Table(names, rows, numbers=range(2, 7)), *details(self), *estimate], self.warnings, mood)


def _next(planned: Plan) -> str:
    if planned.under_way:
        return "a swap is under way, which diptych apply continues and diptych rollback abandons"
    if not planned.pending:
        return "nothing to do, the collection matches the config"
    counts = [step.encode for step in planned.steps if step.encode]
    time = f", in {duration(planned.seconds)}" if planned.seconds else ""
    slots = "1 slot" if len(counts) == 1 else f"{len(counts)} slots"
    encoded = f"diptych apply encodes {sum(counts):,} vectors of {slots}{time}"
    return encoded if counts else "diptych apply changes settings; nothing is encoded"


@needs_answers("plan again once it does")
def plan(
    handle: CollectionHandle, config: Config, *, again: frozenset[str] = frozenset(), sample: int = SAMPLE
) -> Plan:
    """Compare config and collection. Encoders are loaded; those that would re-encode are timed on a sample.

    Args:
        handle: the open collection.
        config: the config to compare with.
        again: slots to re-encode although nothing differs.
        sample: documents that are encoded to estimate time and size; 0 estimates nothing.

    Raises:
        CollectionNotFound: there is no collection yet.
        RegistryError: an encoder cannot be made.
    """
    handle.consent.state(config)
    config = with_stored_default(config, metadata := handle.read())
    count = handle.client.count(handle.name, exact=True).count
    documents = handle.texts.documents(sample) if sample else []
    begin = time.perf_counter()
    with phase("compare the config with the collection"):
        slot_changes = changes(handle, config, metadata, again=again)
    steps = tuple(
        _step(change, *_affected(handle, metadata, change, count), _inputs(change, config, documents))
        for change in slot_changes
    )
    rates = [step.rate for step in steps if step.rate]
    # The plan has loaded and checked the new encoders. The gate does that once more, with the old ones.
    loading = 2 * (time.perf_counter() - begin - sum(len(documents) / rate for rate in rates))
    live, search = stored_search(metadata), config.search.model_dump(mode="json")
    stored = live.model_dump(mode="json") if metadata.search else None
    search_why = "; ".join(compared(live.model_dump(mode="json"), search, "search."))
    differs = any(step.action in (*SWAPS, "storage") for step in steps)
    gated = bool(count) and (differs or searched_otherwise(live, config.search, config.slots))
    missing_modalities = {
        change.slot.reading.modality
        for change in slot_changes
        if change.slot and change.action in ENCODES and documents and not _inputs(change, config, documents)
    }
    params = handle.client.get_collection(handle.name).config.params
    kinds = [change.slot.kind for change in slot_changes if change.slot]
    lacks = version_warnings(handle.client, kinds, tenants=config.tenant is not None)
    slots = {change.name: change.slot for change in slot_changes if change.slot is not None}
    retrieved = [slots[name] for name in config.search.retrieved(slots) if name in slots]
    unfit = unfit_slots(retrieved, handle.texts, search=config.search)
    vocabulary = vocabulary_warnings(unfit, config.search, len(retrieved)) + text_advice(retrieved, handle.texts)
    changed = {change.name for change in slot_changes if change.action in SWAPS}
    stale = stale_threshold(live, config.search, slots, changed) if metadata.search else ""
    warnings = [*([stale] if stale else []), *spread_warnings(config.cluster, params), *lacks]
    most = max((step.encode for step in steps), default=0)
    warnings += pace_warnings(config.swap.pace, handle.client, most)
    warnings += reference_warnings(handle.client, handle.name, metadata.layout)
    swap = metadata.swap
    if swap and describes(config, swap.target) and SearchConfig.model_validate(swap.search or {}) != config.search:
        warnings.append(
            "search: the swap under way keeps the settings that it began with. The edited ones go live by another "
            "`diptych apply` after the cut-over; for the gate to compare them, abandon the swap first: diptych rollback"
        )
    unread = {step.slot: step.unread for step in steps if step.unread}
    warnings += [*vocabulary, *_reading_warnings(handle, config, documents, unread)]
    all_warnings = (*lost_modalities(config, metadata), *_warnings(metadata, steps, missing_modalities), *warnings)
    planned = Plan(handle.name, count, steps, stored != search, search_why, swap is not None, all_warnings, gated)
    if not rates:
        return planned
    # The gate's searches cost about the encoding of so many documents: of each it asks short queries, on both sides.
    judged = Judged.of(config.evaluate)
    asked = len(judged.asked) if judged else min(config.swap.gate.sample, count)
    gate = min(config.swap.gate.seconds, asked * sum(1 / rate for rate in rates)) if gated else 0.0
    return replace(planned, loading=max(0.0, loading), gate=gate)


def _affected(handle: CollectionHandle, metadata: CollectionMetadata, change: Change, count: int) -> tuple[int, int]:
    """How many of the `count` points a change affects, and how many of them it encodes."""
    generation = change.kept or change.live
    if change.action in ENCODES or generation is None:
        modality = change.slot.reading.modality if change.slot else "text"
        if modality != "text":
            count = handle.client.count(handle.name, count_filter=has_media(modality), exact=True).count
        return count, count
    lack = coverage(handle.client, handle.name, generation).missing
    if change.action == "drop":
        return count - lack, 0
    fill = 0
    if lack:  # how many of them have a text, for many points extrapolated from the first ones
        records, _ = handle.client.scroll(
            handle.name, lacking(generation), limit=POINTS_READ, with_payload=True, with_vectors=False
        )
        documents = [metadata.layout.read(record.id, record.payload) for record in records]
        inputs = inputs_of_documents(documents, generation.reading)
        fill = math.ceil(lack * len(inputs) / len(records)) if records else 0
    return (fill if change.action in UNCHANGED else count - lack + fill), fill


def _step(change: Change, points: int, encode: int, inputs: Sequence[Input]) -> Step:
    slot, live = change.slot, change.live
    configured = f"{slot.config.adapter} {slot.config.options.get('model', '')}".strip() if slot else ""
    was = named(live) if live else ""
    step = Step(change.name, change.action, change.why, was, configured, points, encode, likeness=change.likeness)
    step = replace(step, unread=sampled_unread(slot, inputs) if slot else None)
    if slot is None or not (encode and inputs) or slot.kind == "text_index":
        return step
    with phase(f"{slot.where}: time {len(inputs)} documents"):
        vectors, passed = _timed(slot, inputs)
    rate, (disk, memory) = len(vectors) / passed, _bytes(slot, vectors)
    return replace(
        step,
        rate=rate,
        seconds=encode / rate,
        disk=int(disk * encode),
        memory=int(memory * encode),
        passages=float(np.mean([len(vector) for vector in vectors])) if slot.passage_vectors else None,
    )


def _inputs(change: Change, config: Config, documents: Sequence[Document]) -> list[Input]:
    """What the change's encoder reads of these documents."""
    if change.slot is None:
        return []
    return inputs_of_documents(documents, reading_of(config.populate, change.slot.config))


def _warnings(metadata: CollectionMetadata, steps: Sequence[Step], missing_modalities: Iterable[str]) -> list[str]:
    swaps = any(step.action in SWAPS for step in steps)
    warnings = []
    if swaps and metadata.previous is not None:
        kept = sorted(metadata.previous.vectors() - metadata.live.vectors())
        if kept and not any(step.action == "reuse" for step in steps):
            are = "are" if len(kept) > 1 else "is"
            warnings.append(f"the cut-over will drop {', '.join(kept)}, which {are} kept for a rollback")
    text = "the sampled points hold no {}: give apply the documents with --source FILE"
    return [*warnings, *(text.format(modality) for modality in sorted(missing_modalities))]


def _reading_warnings(
    handle: CollectionHandle, config: Config, documents: Sequence[Document], unread: Mapping[str, UnreadTokens]
) -> list[str]:
    """A sentence for each slot and stage that leaves too much unread, with what to do.

    A slot that only rescores finds nothing by itself: it judges what others have found. `unread` says, by slot, what
    its encoder leaves unread of `documents`, a sample.
    """
    rescore = config.search.rescore
    rescorer = rescore.slot if rescore and rescore.slot not in config.search.retrieved(config.slots) else ""
    warnings = unread_warnings({name: found for name, found in unread.items() if name != rescorer})
    if rescore is not None and (found := unread.get(rescore.slot)) and found.longer > MOST_UNREAD * found.documents:
        tokens = min(PASSAGE, found.max_tokens)
        warnings.append(
            f"search.rescore judges long documents by their beginning: slot {rescore.slot!r} has no passages, and "
            f"{found}. Give the slot passages: {{tokens: {tokens}}}, or leave the stage out if diptych evaluate shows "
            "that it loses"
        )
    texts = [handle.view.reading.of(document.title, document.text) for document in documents]
    lengths = [round(len(text) * PER_CHARACTER) for text in texts]  # in tokens
    names = {*config.search.retrieved(config.slots), *([rescore.slot] if rescore else [])}
    passages = any(config.slots[name].passages for name in names if name in config.slots)
    for number, stage in enumerate(config.search.rerank if max(lengths, default=0) > SHORT else ()):
        if passages and stage.read != "document":
            continue
        try:
            limit = handle.view.reranker(stage.label, stage.options).max_length
        except RegistryError:  # the search, and the gate of an apply, say why
            continue
        longer = sum(count > limit for count in lengths) if limit is not None else 0
        if longer <= MOST_UNREAD * len(lengths):
            continue
        do = f"give a slot that is searched passages: {{tokens: {PASSAGE}}}, whose best ones it then reads"
        if passages:
            do = "leave out read: document, and it reads the best passages"
        warnings.append(
            f"search.rerank[{number}] ({stage.label}) judges long documents by their beginning: it reads {limit:,} "
            f"tokens of query and document, and about {longer:,} of a sample of {len(lengths):,} documents are longer. "
            f"To let it read more, {do}"
        )
    return warnings


def change_of(step: Step) -> str:
    """What happens to the slot, in a word or three."""
    return "fill gaps" if step.action == "keep" and step.encode else ACTIONS[step.action]


def details(planned: Plan) -> Iterator[str]:
    """What differs, and what was measured of the new encoders' queries."""
    for step in planned.steps:
        if step.encode and step.action not in ENCODES:
            yield f"{step.slot}: {step.encode:,} documents have no vector yet and get one"
        if step.why:
            yield f"{step.slot}: {step.why}"
        if step.passages is not None:
            total = step.passages * step.encode
            yield f"{step.slot}: about {step.passages:,.1f} passages a document, {total:,.0f} in all"
        if step.unread and step.unread.longer:
            yield f"{step.slot}: {step.unread}"
        if step.action == "numerics" and step.likeness is not None:
            yield f"{step.slot}: canaries encode as before, lowest cosine {step.likeness:.5f}"
    if planned.search:
        yield planned.search_why or "search: the collection has no stored search settings yet"
        if not planned.under_way and all(step.action in UNCHANGED for step in planned.steps):
            yield SEARCH  # with any other change, opening the config is refused, or searches use the stored settings


def _timed(slot: Slot, texts: Sequence[Any]) -> tuple[list[Vector], float]:
    """Vectors of `texts`, or media, and the seconds that they took.

    With passages the first texts must do, since all of each is encoded. Media that are gone or have changed are left
    out, as in a back-fill.

    Raises:
        MediaError: all of the media are gone or have changed.
    """
    encoder = slot.encoder
    if slot.passages:
        texts = texts[: max(1, sum(length <= PASSAGES_FROM for length in accumulate(map(len, texts))))]
    if isinstance(encoder, Calibrated):
        encoder.calibrate(encoder.measure(list(texts)))
    warm_up = [text[:1000] for text in texts[:WARM_UP]] if slot.passages else texts[:WARM_UP]
    # Media are decoded as in the back-fill.
    decoded = partial(slot.encode, "document", fresh=True)
    made = decoded if slot.reads_media else partial(encode, encoder, slot.kind, "document", where=slot.where)
    try:
        made(warm_up)
        begin = time.perf_counter()
        vectors = made(texts)
    except MediaError as error:
        rest = [given for given in texts if given != error.media]
        if not rest or len(rest) == len(texts):
            raise
        return _timed(slot, rest)
    passed = max(time.perf_counter() - begin, 1e-9)
    slot.keep(texts, vectors)  # so that the back-fill does not encode them again
    return vectors, passed


def _bytes(slot: Slot, vectors: Sequence[Vector]) -> tuple[float, float]:
    """Bytes of a document on disk and in memory, with its place in the graph and including the first stage."""
    storage, first = slot.config.storage, slot.config.storage.first_stage
    number = _BYTES.get(storage.datatype or "", 4)
    sizes = (v.size * number if isinstance(v, np.ndarray) else len(v) * (4 + number) for v in vectors)
    parts: list[tuple[Stored, float]] = [(storage, float(np.mean([*sizes])))]
    parts += [(first, first.dimension * _BYTES.get(first.datatype or "", 4))] if first else []
    disk = memory = 0.0
    for stored, width in parts:
        links = 0 if first and stored is storage else _LINKS  # whole vectors that only rescore have no graph
        links = links if stored.hnsw is None or stored.hnsw.m is None else 2 * stored.hnsw.m * 4
        graph = links if slot.spec.kind == "dense" else 0
        in_memory = 0 if stored.hnsw and stored.hnsw.on_disk else graph
        disk, memory = disk + width + graph, memory + (in_memory if stored.on_disk else width + graph)
    return disk, memory
