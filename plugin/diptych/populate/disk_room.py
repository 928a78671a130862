"""Checks that the disk has room before a run writes: for documents, and for new vectors of existing points.

An embedded store's disk space is checked for the whole run, whose need is estimated, and again at each write. A server
checks its own disk.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from diptych.handle.collection_handle import CollectionHandle
from diptych.slots.slot import Slot
from diptych.stores.versions import looks_at_disk, require_room
from diptych.types import Document

if TYPE_CHECKING:
    from diptych.populate.validate import Item

SAMPLE = 64  # documents from whose size the size of all is estimated
SLACK = 1.25  # factor on the estimate, for the log and partly filled blocks
_NUMBER = 4  # bytes
_GRAPH = 160  # bytes of a vector's place in an HNSW graph
_LONGEST = 512  # tokens
_TERM = 16  # bytes of a term of a sparse vector, in the vector and in the index
_PACKED = 3  # characters for each byte of a compressed file
_STORED = 1.4  # stored bytes per zlib byte of a payload: Edge compresses faster, but less


def with_room(
    handle: CollectionHandle, documents: object, expected: int | None, items: Iterable[Item], held: int = 0
) -> Iterator[Item]:
    """The items, after checking that the disk has room for the new ones.

    The check runs at the first item. Only for embedded stores is a sample read ahead, because a source may change the
    collection while it is read.

    Args:
        documents: the source; if `expected` is None, the size of its file gives an estimate of their number.
        held: number of points in the collection.

    Raises:
        StoreFull: the disk has too little room. No document was written.
    """
    rest = iter(items)
    if not looks_at_disk(handle.client):
        yield from rest
        return
    first = list(islice(rest, SAMPLE))
    some = [item.document for item in first]
    count = expected if expected is not None else _count_of(documents, some)
    # Where the collection holds as many already, the documents are taken for the same ones, and need no estimate.
    needed = int(SLACK * point_bytes(some, handle.view.slots) * (count - held)) if count > held else 0
    require_room(handle.client, needed, f"to populate {count:,} documents")
    yield from first
    yield from rest


def require_room_to_fill(handle: CollectionHandle, slot: Slot, lacking: int) -> None:
    """Raise StoreFull unless the disk has room for the slot's vectors of `lacking` points.

    A point of a finished segment moves as a whole when it gets a vector, so the collection takes its space twice for a
    while.
    """
    records, _ = handle.client.scroll(handle.name, limit=SAMPLE, with_payload=True)
    some = [handle.view.layout.read(record.id, record.payload) for record in records]
    needed, purpose = int(SLACK * vector_bytes(some, slot) * lacking), f"to fill new vectors of {lacking:,} points"
    require_room(handle.client, needed, purpose, moving=handle.name if lacking else "")


def point_bytes(documents: Sequence[Document], slots: Mapping[str, Slot]) -> float:
    """Estimate of the bytes of a document in a collection with these slots."""
    payloads = (orjson.dumps([found.text, found.title, found.metadata], default=str) for found in documents)
    stored = sum(_STORED * len(zlib.compress(payload, 1)) for payload in payloads) / max(1, len(documents))
    return stored + sum(vector_bytes(documents, slot) for slot in slots.values())


def vector_bytes(documents: Sequence[Document], slot: Slot) -> float:
    """Estimate of the bytes of a document's vector in a slot, with its index."""
    words = [f"{found.title} {found.text}".split() for found in documents]
    if slot.kind in ("sparse", "text_index"):
        return sum(len(set(some)) for some in words) / max(1, len(words)) * _TERM
    dimension = slot.generation.dimension if slot.generation else None
    row = (dimension or slot.encoder.dimension) * _NUMBER
    tokens = sum(min(len(some), _LONGEST) for some in words) / max(1, len(words))
    return row * tokens if slot.kind == "multivector" else row + _GRAPH


def _count_of(documents: object, first: Sequence[Document]) -> int:
    """Estimate of a file's number of documents, from its size and its first documents; at least those."""
    path = getattr(documents, "path", None)
    if not isinstance(path, Path) or not path.is_file() or not first:
        return len(first)
    size = sum(len(found.text) + len(found.title) + len(str(found.metadata)) + _GRAPH // 2 for found in first)
    packed = _PACKED if path.suffix in (".gz", ".zst", ".parquet") else 1
    return max(len(first), packed * path.stat().st_size * len(first) // size)
