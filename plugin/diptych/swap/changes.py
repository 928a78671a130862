"""`Change`: how a slot differs between config and collection. `spread_warnings`: `cluster` settings that differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from qdrant_client import models

from diptych.config.load import as_written
from diptych.config.models import Config
from diptych.config.problems import redacted
from diptych.config.storage import ClusterConfig
from diptych.errors import SwapError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import reading_of, storage_of
from diptych.metadata.models import CollectionMetadata, Generation, QueryEncoder, Reading
from diptych.passages import without_passages
from diptych.protocols import TEACHER_FILE, Calibrated
from diptych.slots import guard
from diptych.slots.slot import Slot
from diptych.swap.documents import CorpusSample

Action: TypeAlias = Literal[
    "add", "drop", "re-encode", "recalibrate", "reuse", "re-prompt", "storage", "numerics", "keep"
]
ENCODES: tuple[Action, ...] = ("add", "re-encode", "recalibrate")
SWAPS: tuple[Action, ...] = (*ENCODES, "drop", "reuse", "re-prompt")
STAYS: tuple[Action, ...] = ("storage", "numerics", "keep")  # the same vectors go on answering


@dataclass(frozen=True, slots=True)
class Change:
    """One slot of the config compared with the collection.

    Args:
        name: the slot.
        action: what applying it does. `add`, `re-encode`: new vectors. `recalibrate`: new vectors by the same encoder,
            calibrated on the corpus as it is now. `reuse`: an earlier generation's vectors are still kept.
            `re-prompt`, shown as "queries only": documents keep their vectors, queries are made otherwise, by another
            prompt or student. `storage`: Qdrant stores the same vectors differently. `numerics`, shown as "settings
            only": other options, such as batch size, device or precision, in the same vector space, by which the
            canaries encode as before. `keep`: nothing, also where only the machine differs, as `why` then says.
            `drop`: the config has no such slot.
        why: what differs; for `keep`, how the machine computes otherwise.
        slot: the config's slot with its encoder; None for `drop`.
        live: the generation that answers now; None for `add`.
        kept: for `reuse`, the earlier generation.
        likeness: lowest cosine between canaries by the config's encoder and as stored; None where not compared.
        student: the config's student with its encoder, which makes the queries; None without one.
    """

    name: str
    action: Action
    why: str
    slot: Slot | None
    live: Generation | None
    kept: Generation | None = None
    likeness: float | None = None
    student: Slot | None = None


def changes(
    handle: CollectionHandle, config: Config, metadata: CollectionMetadata, *, again: frozenset[str] = frozenset()
) -> list[Change]:
    """The change that each slot needs, the config's slots first. Encoders are loaded, those of the last call not again.

    Args:
        again: slots to re-encode although nothing differs.

    Raises:
        RegistryError: an encoder cannot be made.
        SwapError: the queries of a student do not fit the slot's vectors.
    """
    live, slot_changes, corpus = metadata.live.slots, [], CorpusSample(handle, metadata.layout)
    for name, slot_config in config.slots.items():
        reading = reading_of(config.populate, slot_config)
        slot = handle.candidate(name, slot_config)
        now = live.get(name)
        change = _change(slot, now, metadata, reading, name in again)
        statistics = now.statistics if now is not None and change.action in STAYS else None
        if now is not None and statistics is not None and isinstance(slot.encoder, Calibrated):
            moved = corpus.shift(slot.encoder, statistics, now.reading)
            why = "; ".join(filter(None, (moved, change.why)))
            change = replace(change, action="recalibrate", why=why) if moved else change
        student = handle.candidate(name, slot_config.student, student=True) if slot_config.student else None
        slot_changes.append(_with_student(change, slot, student, metadata.live.asking.get(name)))
    dropped = [name for name in live if name not in config.slots]
    return slot_changes + [Change(name, "drop", "the config has no such slot", None, live[name]) for name in dropped]


def _change(slot: Slot, live: Generation | None, metadata: CollectionMetadata, reading: Reading, again: bool) -> Change:
    kept = None if again else _kept(slot, metadata, reading)
    if live is None:
        return Change(slot.name, "reuse" if kept else "add", "new in the config", slot, None, kept)
    why = "; ".join(differences(slot, live, reading))
    fixed = _fixed(storage_of(slot.config)) != _fixed(live.storage)
    unlike = fixed or slot.kind != live.kind or reading != live.reading or _loses_text_queries(slot, live)
    if again or unlike:  # the vectors are made again whatever the encoders are
        action: Action = "reuse" if kept else "re-encode"
        return Change(slot.name, action, why or "asked for", slot, live, kept)
    # Of several differences the one with the most to do decides: other vectors, then other queries, then storage, then
    # settings. A fingerprint says what is declared; canaries also notice a model that changed behind its name.
    now = slot.fingerprint
    limit = guard.minimum_likeness(now, live)
    if now.space != live.space:
        if kept is not None:
            return Change(slot.name, "reuse", why, slot, live, kept)
        same = bool(now.documents) and now.documents == live.documents
        same = same and compare(slot, live).of("document") >= limit
        why = why or f"the model behind the name changed: {live.fingerprint} made the vectors, it is {now} now"
        return Change(slot.name, "re-prompt" if same else "re-encode", why, slot, live)
    likeness = compare(slot, live)
    if likeness.lowest < limit:
        behind = f"the model behind the name changed (canary cosine {likeness.lowest:.4f})"
        return Change(slot.name, "re-encode", "; ".join(filter(None, (behind, why))), slot, live, None, likeness.lowest)
    if storage_of(slot.config) != live.storage:
        return Change(slot.name, "storage", why, slot, live, None, likeness.lowest)
    if not why and now.numerics != live.numerics:  # the machine chose backend or precision, and not the config
        here = f"encodes with {now.numerics} here, the stored vectors with {live.numerics}; canaries have not changed"
        return Change(slot.name, "keep", here, slot, live, None, likeness.lowest)
    return Change(slot.name, "numerics" if why else "keep", why, slot, live, None, likeness.lowest)


def _with_student(change: Change, slot: Slot, student: Slot | None, asking: QueryEncoder | None) -> Change:
    """The change with the config's student; one that is not the live one changes the queries."""
    live = asking.generation if asking is not None and asking.student else None
    then, now = {} if live is None else live.options, {} if student is None else student.config.options
    adapters = ({"adapter": live.adapter} if live else {}, {"adapter": student.config.adapter} if student else {})
    why = "; ".join(compared({**adapters[0], **then}, {**adapters[1], **now}, "query."))
    if student is not None:
        require_space_of(student, slot)
        if live is not None and not why and not _is(student, live):
            why = "the model behind the student's name changed"
    action: Action = "re-prompt" if why and change.action in STAYS else change.action
    return replace(change, action=action, why="; ".join(filter(None, (change.why, why))), student=student)


def _is(slot: Slot, generation: Generation) -> bool:
    """Whether the slot's encoder makes the vectors of the generation."""
    now = slot.fingerprint
    if now.space != generation.space:
        return False
    return bool(compare(slot, generation).lowest >= guard.minimum_likeness(now, generation))


def compare(slot: Slot, live: Generation) -> guard.Likeness:
    """How alike the slot's encoder's canaries are to the generation's."""
    # Weights depend on corpus statistics: with those of the generation, a difference is the encoder's.
    if live.statistics is not None and isinstance(slot.encoder, Calibrated):
        slot.encoder.calibrate(live.statistics)
    return guard.compare(slot.encoder, live, where=slot.where)


def differences(slot: Slot, live: Generation, reading: Reading) -> Iterator[str]:
    """How config and generation differ: `model: 'a' -> 'b'`."""
    configured = {"adapter": slot.config.adapter, **slot.config.options}
    yield from compared({"adapter": live.adapter, **live.options}, configured)
    yield from compared(live.storage, storage_of(slot.config), "storage.")
    then, now = live.reading.model_dump(), reading.model_dump()
    yield from compared({"of": then.pop("modality")}, {"of": now.pop("modality")})
    yield from compared(then, now, "populate.")
    if _loses_text_queries(slot, live):
        yield "queries can no longer be texts"


def named(generation: Generation) -> str:
    """Its adapter and, where it has one, its model."""
    return f"{generation.adapter} {generation.options.get('model', '')}".strip()


def compared(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """How two sets of options differ, secrets hidden."""
    old, new = redacted(then), redacted(now)
    for key in {**then, **now}:
        if then.get(key) != now.get(key):
            yield f"{prefix}{key}: {as_written(old.get(key))} -> {as_written(new.get(key))}"


def _loses_text_queries(slot: Slot, live: Generation) -> bool:
    """Whether queries of a slot of media could be texts and can be no longer: its encoder reads no canary texts."""
    return guard.takes_text_queries(live) and "text" not in slot.spec.accepts


def _fixed(storage: Mapping[str, Any]) -> list[Any]:
    """The storage settings that cannot change for existing vectors: number formats and lengths."""
    first = storage.get("first_stage") or {}
    return [storage.get("datatype"), first.get("datatype"), first.get("dimension")]


def _kept(slot: Slot, metadata: CollectionMetadata, reading: Reading) -> Generation | None:
    """The generation before the last cut-over, if its vectors are still updated and match the config."""
    kept = metadata.previous.slots.get(slot.name) if metadata.previous else None
    # A vector that is behind misses documents that a populate could not write to it.
    if kept is None or kept.vector in metadata.behind or kept.kind != slot.kind or kept.reading != reading:
        return None
    if storage_of(slot.config) != kept.storage or _loses_text_queries(slot, kept):
        return None
    return kept if _is(slot, kept) else None


def spread_warnings(cluster: ClusterConfig, params: models.CollectionParams) -> list[str]:
    """A sentence for each setting that the collection was created with another value of."""
    custom = params.sharding_method == models.ShardingMethod.CUSTOM
    compared = {
        "shards": (cluster.shards, params.shard_number or 1),
        "replicas": (cluster.replicas, params.replication_factor or 1),
        "write_consistency": (cluster.write_consistency, params.write_consistency_factor or 1),
    }
    sentences = [
        _sentence(key, str(has), str(configured))
        for key, (configured, has) in compared.items()
        if configured not in (None, has)
    ]
    for key in ("shard_key", "shard_by"):
        configured = getattr(cluster, key)
        if configured is not None and not custom:
            sentences.append(_sentence(key, "no shard keys", repr(configured)))
    return sentences


def _sentence(key: str, has: str, configured: str) -> str:
    return (
        f"cluster.{key}: the collection has {has}, the config says {configured}. `apply` cannot change that in place: "
        "copy the collection into a new one with `diptych copy`, or leave the setting as it was"
    )


def require_space_of(student: Slot, slot: Slot) -> None:
    """Refuse a student whose queries do not fit the vectors of the slot's encoder.

    Raises:
        SwapError: its vectors have another dimension, or it was trained for another encoder.
    """
    lengths = student.encoder.dimension, slot.encoder.dimension
    trained = _trained_for(str(student.config.options.get("model", "")), where=f"{slot.where}, query.student")
    now = slot.fingerprint
    documents = without_passages(now.documents or now.space)
    if lengths[0] != lengths[1] or (trained and documents not in trained):
        others = f" and {len(trained) - 1} others" if len(trained) > 1 else ""
        raise SwapError(
            "the student's queries do not fit the slot's vectors",
            where=f"{slot.where}, query.student",
            got=f"{lengths[0]} dimensions" + (f", trained for {trained[0]}{others}" if trained else ""),
            expected=f"{lengths[1]} dimensions, for {documents}",
            do="train one for this encoder: diptych train with recipe: student",
        )


def _trained_for(model: str, *, where: str) -> tuple[str, ...]:
    """The encoders of documents that a folder of recipe `student` or `elastic` was trained for; () for other models.

    Raises:
        SwapError: the folder's record cannot be read.
    """
    record = Path(model) / TEACHER_FILE
    if not model or not record.is_file():
        return ()
    try:
        documents = json.loads(record.read_text("utf-8"))["documents"]
        return tuple(map(str, documents)) if isinstance(documents, list) else (str(documents),)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SwapError(
            "the student's record of its teacher cannot be read",
            where=f"{where}, {record}",
            got=f"{type(error).__name__}: {error}",
            expected='{"documents": FINGERPRINT}, or a list of some, as the recipes student and elastic write it',
            do="train the student again, or restore the file",
        ) from error
