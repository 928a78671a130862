"""`plan`: what `apply` would do and cost; changes nothing."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Self

import numpy as np

from diptych.config.models import Config
from diptych.config.stages import Rerank
from diptych.config.storage import Stored
from diptych.display import Display, Displayed, Mood, Table, duration, size
from diptych.errors import FingerprintMismatch, MediaError, RegistryError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import lost_modalities, reading_of, stored_search, with_stored_default
from diptych.metadata.models import CollectionMetadata, Generation, vector_name
from diptych.metadata.payloads import has_media
from diptych.passages import PassageEncoder
from diptych.populate.media_references import reference_warnings
from diptych.populate.pace import pace_warnings
from diptych.populate.store import lacking
from diptych.protocols import Calibrated, MultiVectorEncoder
from diptych.reports import UnreadTokens
from diptych.runtime.phases import phase
from diptych.slots.calibration_texts import SAMPLE, inputs_of_documents
from diptych.slots.encode import Input, Vector, encode
from diptych.slots.slot import Slot
from diptych.slots.unread import (
    MOST_UNREAD,
    PASSAGE,
    PER_CHARACTER,
    sampled_unread,
    unfit_slots,
    unread_warnings,
    vocabulary_warnings,
)
from diptych.stores.server_errors import needs_answers
from diptych.stores.versions import version_warnings
from diptych.swap.begin import edited_search
from diptych.swap.changes import ENCODES, SWAPS, Action, Change, changes, compared, spread_warnings
from diptych.swap.gate.answers import searched_otherwise
from diptych.swap.gate.decision import threshold_warnings
from diptych.swap.gate.gate import coverage
from diptych.swap.gate.judged import Judged, JudgedComparison
from diptych.swap.query_override import comparable, describe, named, query_side
from diptych.types import Document, Floats

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
JUDGED: tuple[Action, ...] = ("re-encode", "numerics")  # actions whose new queries can be tried on the old vectors
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
        reduced: mean vectors of a document in the sample, without `reduce` and with it; None if the slot has none.
        disk, memory: additional bytes until `finish`, estimated from the sample; memory excludes what is on disk only.
        likeness: lowest cosine between canaries by the config's encoder and as stored; None if not compared.
        query_side: comparison of both encoders' queries on the old vectors; None if not measured.
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
    reduced: tuple[float, float] | None = None
    likeness: float | None = None
    query_side: JudgedComparison | None = None
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
    steps, warnings = _with_query_side(handle, metadata, config, slot_changes, steps)
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
    vocabulary = vocabulary_warnings(unfit_slots(retrieved, handle.texts), config.search, len(retrieved))
    warnings += [*threshold_warnings(metadata, config, slot_changes), *spread_warnings(config.cluster, params), *lacks]
    most = max((step.encode for step in steps), default=0)
    warnings += pace_warnings(config.swap.pace, handle.client, most)
    warnings += reference_warnings(handle.client, handle.name, metadata.layout) + edited_search(config, metadata.swap)
    unread = {step.slot: step.unread for step in steps if step.unread}
    warnings += [*vocabulary, *_reading_warnings(handle, config, documents, unread)]
    all_warnings = (*lost_modalities(config, metadata), *_warnings(metadata, steps, missing_modalities), *warnings)
    under_way = metadata.swap is not None
    planned = Plan(handle.name, count, steps, stored != search, search_why, under_way, all_warnings, gated)
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
    fill = _fillable(handle, metadata, generation, lack) if lack else 0
    return (fill if change.action in UNCHANGED else count - lack + fill), fill


def _fillable(handle: CollectionHandle, metadata: CollectionMetadata, generation: Generation, lack: int) -> int:
    """How many of the points that lack a vector have a text; for many points, extrapolated from the first ones."""
    records, _ = handle.client.scroll(
        handle.name, lacking(generation), limit=POINTS_READ, with_payload=True, with_vectors=False
    )
    documents = [metadata.layout.read(record.id, record.payload) for record in records]
    inputs = inputs_of_documents(documents, generation.reading)
    return math.ceil(lack * len(inputs) / len(records)) if records else 0


def _step(change: Change, points: int, encode: int, inputs: Sequence[Input]) -> Step:
    slot, live = change.slot, change.live
    configured = f"{slot.config.adapter} {slot.config.options.get('model', '')}".strip() if slot else ""
    was = named(live) if live else ""
    step = Step(change.name, change.action, change.why, was, configured, points, encode, likeness=change.likeness)
    step = replace(step, unread=sampled_unread(slot, inputs) if slot else None)
    if slot is None or not (encode and inputs) or slot.kind == "text_index":
        return step
    with phase(f"{slot.where}: time {len(inputs)} documents"):
        estimate = Estimate.of(slot, inputs)
    return replace(
        step,
        rate=estimate.rate,
        seconds=encode / estimate.rate,
        disk=int(estimate.disk * encode),
        memory=int(estimate.memory * encode),
        passages=estimate.passages,
        reduced=estimate.reduced,
    )


def _with_query_side(
    handle: CollectionHandle,
    metadata: CollectionMetadata,
    config: Config,
    slot_changes: Sequence[Change],
    steps: Sequence[Step],
) -> tuple[tuple[Step, ...], list[str]]:
    """The steps with the measured effect of the new encoders' queries on the old vectors, or why it is unknown."""
    judged, measured, warnings = Judged.of(config.evaluate), [], []
    for change, step in zip(slot_changes, steps, strict=True):
        try:
            side = _query_side(handle, metadata, config, change, judged) if judged else None
            measured.append(replace(step, query_side=side))
        except (RegistryError, FingerprintMismatch) as error:
            warnings.append(f"slot {step.slot!r}: the encoder that made its vectors cannot be loaded: {error.what}")
            measured.append(step)
    return tuple(measured), warnings


def _query_side(
    handle: CollectionHandle,
    metadata: CollectionMetadata,
    config: Config,
    change: Change,
    judged: Judged,
) -> JudgedComparison | None:
    slot, live = copy.copy(change.slot), change.live  # without the generation that the copy is given
    if slot is None or live is None or change.action not in JUDGED or slot.kind != live.kind:
        return None
    same = change.action == "numerics"
    number = live.number if same else metadata.numbers.get(change.name, 0) + 1
    name = live.vector if same else vector_name(change.name, slot.kind, number)
    new = slot.describe(number=number, vector=name, reading=live.reading, statistics=None)
    if not same and not comparable(live, new):
        return None
    slot.generation = new
    handle.share_encoder(slot)
    return query_side(handle, metadata, change.name, new, judged, config.swap.gate)


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
    return [*warnings, *_rerank_warnings(handle, config, [round(len(text) * PER_CHARACTER) for text in texts])]


def _rerank_warnings(handle: CollectionHandle, config: Config, tokens: Sequence[int]) -> list[str]:
    if max(tokens, default=0) <= SHORT:
        return []
    search = config.search
    names = {*search.retrieved(config.slots), *([search.rescore.slot] if search.rescore else [])}
    passages = any(config.slots[name].passages for name in names if name in config.slots)
    return [
        warning
        for number, stage in enumerate(search.rerank)
        if not passages or stage.read == "document"
        if (warning := _rerank_warning(handle, f"search.rerank[{number}]", stage, tokens, passages=passages))
    ]


def _rerank_warning(
    handle: CollectionHandle, place: str, stage: Rerank, tokens: Sequence[int], *, passages: bool
) -> str:
    """A sentence about one stage that reads the beginning of documents; empty if it reads most of them whole."""
    try:
        limit = handle.view.reranker(stage.label, stage.options).max_length
    except RegistryError:  # the search, and the gate of an apply, say why
        return ""
    longer = sum(count > limit for count in tokens) if limit is not None else 0
    if longer <= MOST_UNREAD * len(tokens):
        return ""
    do = f"give a slot that is searched passages: {{tokens: {PASSAGE}}}, whose best ones it then reads"
    if passages:
        do = "leave out read: document, and it reads the best passages"
    return (
        f"{place} ({stage.label}) judges long documents by their beginning: it reads {limit:,} tokens of query and "
        f"document, and about {longer:,} of a sample of {len(tokens):,} documents are longer. To let it read more, {do}"
    )


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
        if step.reduced is not None:
            whole, kept = step.reduced
            sizes = f"{size(step.disk)} in place of {size(int(step.disk * whole / kept))}"
            yield f"{step.slot}: about {kept:,.1f} of {whole:,.1f} vectors of a document are kept, {sizes}"
        if step.unread and step.unread.longer:
            yield f"{step.slot}: {step.unread}"
        if step.action == "numerics" and step.likeness is not None:
            yield f"{step.slot}: canaries encode as before, lowest cosine {step.likeness:.5f}"
        if step.query_side is not None:
            yield f"{step.slot}: {describe(step.query_side)}{_to_do(step)}"
    if planned.search:
        yield planned.search_why or "search: the collection has no stored search settings yet"
        if not planned.under_way and all(step.action in UNCHANGED for step in planned.steps):
            yield SEARCH  # with any other change, opening the config is refused, or searches use the stored settings


def _to_do(step: Step) -> str:
    """Advice from the measurement, for slots that are re-encoded."""
    if step.query_side is None or step.action == "numerics":
        return ""
    if step.query_side.low > 0:
        return "; diptych apply --switch-queries lets the new one encode queries at once"
    return "; the old one encodes queries until the new vectors are ready, then the gate compares both"


@dataclass(frozen=True, slots=True)
class Estimate:
    """The costs of a document.

    Args:
        rate: documents a second.
        disk, memory: bytes of a document as Qdrant stores it.
        passages: of a document, in the mean; None where the slot has none.
        reduced: mean vectors of a document, without `reduce` and with it; None if the slot has no `reduce`.
    """

    rate: float
    disk: float
    memory: float
    passages: float | None = None
    reduced: tuple[float, float] | None = None

    @classmethod
    def of(cls, slot: Slot, texts: Sequence[Any]) -> Self:
        """Measured on `texts`, or media; with passages on the first of them, since all of each is encoded.

        Raises:
            MediaError: all of the media are gone or have changed; those of a few are left out, as in a back-fill.
        """
        while True:
            try:
                return cls._of(slot, texts)
            except MediaError as error:
                rest = [given for given in texts if given != error.media]
                if not rest or len(rest) == len(texts):
                    raise
                texts = rest

    @classmethod
    def _of(cls, slot: Slot, texts: Sequence[Any]) -> Self:
        encoder = slot.encoder
        if slot.passages:
            texts = texts[: max(1, sum(length <= PASSAGES_FROM for length in accumulate(map(len, texts))))]
        if isinstance(encoder, Calibrated):
            encoder.calibrate(encoder.measure(list(texts)))
        warm_up = [text[:1000] for text in texts[:WARM_UP]] if slot.passages else texts[:WARM_UP]
        _encode(slot, encoder, warm_up)
        counting = None
        if slot.config.reduce:
            encoder, counting = _counting(encoder)
        begin = time.perf_counter()
        vectors = _encode(slot, encoder, texts)
        passed = max(time.perf_counter() - begin, 1e-9)
        slot.keep(texts, vectors)  # so that the back-fill does not encode them again
        passages = _count(vectors) if slot.passage_vectors else None
        reduced = (counting.counted / len(texts), _count(vectors)) if counting else None
        return cls(len(texts) / passed, *_bytes(slot, vectors), passages, reduced)


def _encode(slot: Slot, encoder: Any, inputs: Sequence[Any]) -> list[Vector]:
    if slot.reads_media:  # decoded as in the back-fill
        return slot.encode("document", inputs, fresh=True)
    return encode(encoder, slot.kind, "document", inputs, where=slot.where)


def _count(vectors: Sequence[Vector]) -> float:
    return float(np.mean([len(vector) for vector in vectors]))


class _Counting:
    """Encodes documents as `inner` does, and counts their vectors."""

    def __init__(self, inner: MultiVectorEncoder) -> None:
        self.inner, self.counted = inner, 0

    def encode_document(self, inputs: Sequence[str]) -> list[Floats]:
        """As `inner`."""
        documents = self.inner.encode_document(inputs)
        self.counted += sum(map(len, documents))
        return documents


def _counting(encoder: Any) -> tuple[Any, _Counting]:
    """A copy of a slot's encoder that counts the vectors of documents before `reduce` makes fewer of them."""
    encoder = copy.copy(encoder)
    if isinstance(encoder, PassageEncoder):
        encoder.inner, counting = _counting(encoder.inner)
    else:
        encoder.inner = counting = _Counting(encoder.inner)
    return encoder, counting


def _bytes(slot: Slot, vectors: Sequence[Vector]) -> tuple[float, float]:
    """Bytes of a document on disk and in memory, including the first stage."""
    storage = slot.config.storage
    width, first = _BYTES.get(storage.datatype or "", 4), storage.first_stage
    sizes = (v.size * width if isinstance(v, np.ndarray) else len(v) * (4 + width) for v in vectors)
    size = float(np.mean([*sizes]))
    disk, memory = _placed(storage, size, _graph(slot, storage, indexed=first is None))
    if first is None:
        return disk, memory
    more = _placed(first, first.dimension * _BYTES.get(first.datatype or "", 4), _graph(slot, first))
    return disk + more[0], memory + more[1]


def _placed(stored: Stored, size: float, graph: int) -> tuple[float, float]:
    """Bytes on disk, and those in memory, of a vector and its place in the graph."""
    in_memory = 0 if stored.hnsw and stored.hnsw.on_disk else graph
    return size + graph, in_memory if stored.on_disk else size + graph


def _graph(slot: Slot, stored: Stored, *, indexed: bool = True) -> int:
    """Bytes of a document in the graph; multi-vectors that only rescore have none."""
    if slot.spec.kind != "dense":
        return 0
    unset = _LINKS if indexed else 0
    return unset if stored.hnsw is None or stored.hnsw.m is None else 2 * stored.hnsw.m * 4
