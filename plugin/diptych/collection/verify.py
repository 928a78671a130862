"""`verify`: checks that points are as they were written: no vector missing, empty or made from another text.

Nothing else detects damage in large vector files. All vectors are checked, and a sample of the documents is encoded
again and compared. `mend` writes correct vectors where the text is intact, and leaves the rest to populate.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import models

from diptych.display import Display, Displayed, Table
from diptych.errors import CollectionError, MediaError
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.payloads import NATIVE, OWN, Layout
from diptych.search.fusion import PointId
from diptych.slots import guard
from diptych.slots.canaries import likenesses, pack
from diptych.slots.encode import Vector, is_finite
from diptych.slots.slot import Slot
from diptych.stores.scroll import pages, plain_id
from diptych.stores.server_errors import needs_answers
from diptych.types import SparseVector

SAMPLE = 64  # documents that are encoded again
PAGE = 256  # points read at once
SLACK = 0.02  # similarity that a store's own datatype may cost
SHOWN = 5  # document ids that a report names of each fault


@dataclass(slots=True)
class VerifyReport(Displayed):
    """Result of `verify`. Each fault maps point ids to document ids.

    Args:
        collection: its name.
        points: how many were checked.
        sampled: of these, how many were encoded again.
        files: large files of an embedded store that are not as they were when it was closed.
        altered: documents whose payload does not match its hash; populate writes them anew.
        vectors: by slot, documents whose vector is missing, empty, not finite, or that of another text.
        media: why media of a document cannot be read; its vector was not compared.
    """

    collection: str
    points: int = 0
    sampled: int = 0
    files: tuple[str, ...] = ()
    altered: dict[PointId, str] = field(default_factory=dict)
    vectors: dict[str, dict[PointId, str]] = field(default_factory=dict)
    media: dict[PointId, str] = field(default_factory=dict)

    @property
    def faulty(self) -> int:
        """Points with a fault."""
        return len({*self.altered, *self.media, *(point for ids in self.vectors.values() for point in ids)})

    @property
    def passed(self) -> bool:
        """Whether no fault was found."""
        return not self.faulty and not self.files

    def lines(self) -> list[str]:
        """The faults in words."""
        faults = [f"{name} in the store's folder" for name in self.files]
        faults += [f"{name}: vectors of {_named(ids)} do not fit" for name, ids in self.vectors.items() if ids]
        faults += [f"media of {_named(self.media)} cannot be read"] if self.media else []
        return [*faults, *([f"payloads of {_named(self.altered)} were altered"] if self.altered else [])]

    def display(self) -> Display:
        """Whether the points are as they were written."""
        told = "no fault was found" if self.passed else f"{self.faulty:,} documents have a fault"
        differ = "1 file differs" if len(self.files) == 1 else f"{len(self.files):,} files differ"
        rows = [(str(point), reason) for point, reason in self.media.items()]
        reasons = [Table(("point", "why its media cannot be read"), rows)] if rows else []
        note = f"{self.points:,} documents checked, {self.sampled:,} of them encoded again"
        head = f"{self.collection}: {told}{f', {differ}' if self.files else ''}"
        return Display(head, [note, *reasons], self.lines(), "good" if self.passed else "bad")


@needs_answers("run it again once it does")
def verify(handle: CollectionHandle, *, sample: int | None = SAMPLE) -> VerifyReport:
    """Check all points of the live slots, and compare a re-encoded sample of the documents.

    Args:
        sample: how many documents, chosen at random; None for all.

    Raises:
        CollectionError: there is no collection yet.
        FingerprintMismatch, ContractError, RemoteError: an encoder is not the one that made the vectors, or fails.
    """
    if not handle.exists:
        raise CollectionError("there is nothing to verify yet", where=f"collection {handle.name!r}", do="fill it first")
    changed_files = getattr(handle.client, "changed_files", lambda name: ())
    report = VerifyReport(handle.name, files=tuple(changed_files(handle.name)))
    slots = {name: slot for name, slot in handle.slots.items() if slot.kind != "text_index"}
    sampled: list[models.Record] = []
    rng = random.Random(0)
    vectors = [slot.vector for slot in slots.values()]
    for records, _ in pages(handle.client, handle.name, PAGE, vectors=vectors):
        documents = [record for record in records if _is_document(record, handle.view.layout)]
        for record in records:
            # Points of documents are UUIDs of version 5: a payload that no longer says so was changed.
            marked = _is_document(record, handle.view.layout) or not isinstance(record.id, str)
            if not marked and UUID(str(record.id)).version == 5:
                report.points += 1
                report.altered[record.id] = str(record.id)
        for record in documents:
            report.points += 1
            payload = {key: value for key, value in (record.payload or {}).items() if key not in handle.view.copies}
            # Payloads of an adopted collection have no hash.
            native = handle.view.layout.is_native
            if native and NATIVE.read(record.id, payload).content_hash() != payload[OWN].get("hash"):
                report.altered[record.id] = handle.view.layout.read(record.id, record.payload).id
            if sample is None or len(sampled) < sample:
                sampled.append(record)
            elif (position := rng.randrange(report.points)) < sample:
                sampled[position] = record
        suspects = {name: [r for r in documents if not _is_sound(_stored(r, slot))] for name, slot in slots.items()}
        _compare(handle, slots, suspects, report)
        if sample is None:
            _compare(handle, slots, dict.fromkeys(slots, sampled), report)
            report.sampled += len(sampled)
            sampled = []
    if sampled:
        _compare(handle, slots, dict.fromkeys(slots, sampled), report)
        report.sampled = len(sampled)
    return report


@needs_answers("run it again once it does")
def mend(handle: CollectionHandle, report: VerifyReport) -> tuple[int, int]:
    """Repair what `verify` found; returns how many points got new vectors, and how many are left to populate.

    The latter are those whose payload was altered: their hash is emptied, so that populate takes them for changed.
    Points that were deleted meanwhile are left out.
    """
    from diptych.populate.points import PointMaker
    from diptych.populate.read_ahead import batched
    from diptych.populate.store import Store

    live, maker, points = Store.of(handle), PointMaker(handle.client, handle.view.layout), set[PointId]()
    for name, ids in report.vectors.items():
        slot, intact = handle.slots[name], ids.keys() - report.altered.keys()
        points |= intact
        for batch in batched(sorted(intact, key=str), PAGE):
            records = handle.client.retrieve(handle.name, batch, with_payload=True)
            encoded = zip(records, _encoded(handle, slot, records, report.media), strict=True)
            made = [(plain_id(record.id), vector) for record, vector in encoded if vector is not None]
            if updates := [maker.update(point, {slot.vector: vector}, {slot.vector: slot}) for point, vector in made]:
                live.add_vectors(updates)
    if handle.view.layout.is_native:
        for batch in batched(report.altered, PAGE):
            live.add_payload({plain_id(point): {"hash": ""} for point in batch}, key=OWN)
    return len(points), len(report.altered)


def _is_document(record: models.Record, layout: Layout) -> bool:
    return not layout.is_native or bool((record.payload or {}).get(OWN))


def _is_sound(stored: Vector | None) -> bool:
    """Whether there is a vector, which is finite and not all zero."""
    values = stored.values if isinstance(stored, SparseVector) else stored
    return stored is not None and is_finite(stored) and bool(np.any(values))


def _stored(record: models.Record, slot: Slot) -> Vector | None:
    """The slot's vector in the form that an encoder returns; None where the point has none."""
    vectors: Any = record.vector
    stored = vectors.get(slot.vector) if isinstance(vectors, dict) else vectors
    if stored is None or (isinstance(stored, list) and not stored):
        return None
    if isinstance(stored, models.SparseVector):
        indices, values = np.asarray(stored.indices, np.uint32), np.asarray(stored.values, np.float32)
        order = np.argsort(indices)
        return SparseVector(indices[order], values[order])
    return np.asarray(stored, np.float32)


def _compare(
    handle: CollectionHandle,
    slots: Mapping[str, Slot],
    chosen: Mapping[str, Sequence[models.Record]],
    report: VerifyReport,
) -> None:
    """Encode the documents of these points again, and record those whose vectors differ."""
    for name, slot in slots.items():
        records = [record for record in chosen[name] if record.id not in report.vectors.get(name, {})]
        for record, vector in zip(records, _encoded(handle, slot, records, report.media), strict=True):
            if record.id not in report.media and not _alike(slot, vector, _stored(record, slot)):
                report.vectors.setdefault(name, {})[record.id] = handle.view.layout.read(record.id, record.payload).id


def _encoded(
    handle: CollectionHandle, slot: Slot, records: Sequence[models.Record], unread: dict[PointId, str]
) -> list[Vector | None]:
    """The documents' vectors; None for a document that has nothing for the slot, or media that cannot be read."""
    documents = [handle.view.layout.read(record.id, record.payload) for record in records]
    inputs = [slot.reading.input_of(document) for document in documents]
    present = [given for given in inputs if given is not None]
    try:
        vectors = iter(slot.encode("document", present, fresh=True) if present else ())
    except MediaError:
        pass  # one of them cannot be read: each is tried alone
    else:
        return [None if given is None else next(vectors) for given in inputs]
    found: list[Vector | None] = [None] * len(inputs)
    for n, (record, given) in enumerate(zip(records, inputs, strict=True)):
        try:
            found[n] = None if given is None else slot.encode("document", [given], fresh=True)[0]
        except MediaError as error:
            unread[record.id] = str(error)
    return found


def _alike(slot: Slot, encoded: Vector | None, stored: Vector | None) -> bool:
    if encoded is None:
        return stored is None
    if stored is None:
        return isinstance(encoded, SparseVector) and not len(encoded.indices)  # a text without a known term
    if isinstance(encoded, SparseVector) or isinstance(stored, SparseVector) or encoded.shape == stored.shape:
        made, least = slot.generation, guard.COARSEST
        if made is not None:
            least = guard.minimum_likeness(made.fingerprint, made) - SLACK
        unit = slot.similarity == "cosine" or (encoded.ndim == 2 if not isinstance(encoded, SparseVector) else False)
        return likenesses([pack(_scaled(encoded, unit))], [pack(_scaled(stored, unit))])[0] >= least
    return False


def _scaled(vector: Vector, unit: bool) -> Vector:
    """A dense vector, or the rows of a multi-vector, scaled to length 1, as Qdrant stores them for cosine."""
    if isinstance(vector, SparseVector) or not unit:
        return vector
    norms = np.linalg.norm(vector, axis=-1, keepdims=True)
    scaled: Vector = (vector / np.where(norms > 0, norms, 1)).astype(np.float32)
    return scaled


def _named(ids: Mapping[PointId, str]) -> str:
    names = [*ids.values()]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    noun = "document" if len(names) == 1 else "documents"
    return f"{len(names):,} {noun} ({', '.join(map(repr, names[:SHOWN]))}{more})"
