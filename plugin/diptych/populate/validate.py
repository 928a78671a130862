"""The first stage: turns the source's entries into checked, hashed documents without duplicates.

`SeenIds` keeps the documents that this run has seen in a temporary file, so that memory does not grow.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import math
import mmap
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

import numpy as np

from diptych.errors import DocumentError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import document_key, tenant_of, with_tenant
from diptych.metadata.payloads import require_unreserved
from diptych.populate.rejects import Rejected, Rejects, reason_of
from diptych.populate.sources.readers import Row
from diptych.types import LONGEST_ID, Document

CACHE_KIB = 65_536  # memory for the table; the rest of it is in a file that the system deletes with the process
NEWEST = 8192  # ids in a dictionary until inserted with one statement; one per id would wait for the GIL each time
FILTER_BITS = 1 << 27  # 16 MiB, in use after some thousand ids; up to ten million it recognises nearly every new id
PLACES = 4  # bits of a key in the filter
KEY, HELD = 16, 33  # bytes of a digest, and of the record kept per id: a mark, the content hash, the point's digest
MENTIONED = bytes(HELD)  # record of an id that the source names, but whose document was rejected

_TEXT_INDEXES = ("keyword", "text", "uuid", "datetime", "geo")  # payload indexes that do not index numbers or booleans
DEEPEST = 64  # levels of metadata; Edge cannot read its own log again beyond 125, and then the collection is lost
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # integers beyond would silently become floats


@dataclass(slots=True)
class Tally:
    """The counts so far; `encoded` counts vectors by slot."""

    read: int = 0
    duplicates: int = 0
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    encoded: Counter[str] = field(default_factory=Counter)

    @property
    def acknowledged(self) -> int:
        """Documents that the store has confirmed in this run."""
        return self.new + self.changed


@dataclass(frozen=True, slots=True)
class Item:
    """A document on its way: content hash, encoder input, point id, place in the source, new or changed.

    `held` is the payload of the point that it changes, in a collection whose points hold more than diptych's documents.
    """

    document: Document
    hash: str
    input: str
    point: int | str
    position: int
    new: bool = True
    held: Mapping[str, Any] | None = None


class Validator:
    """Checks documents; rejects those that cannot be indexed with the reason, and yields the others as items.

    With a `tenant`, all documents belong to it: those that name none get it, those of others are rejected.
    """

    def __init__(
        self,
        handle: CollectionHandle,
        seen: SeenIds,
        rejects: Rejects | None,
        tally: Tally,
        *,
        tenant: str | None = None,
    ) -> None:
        self._handle, self._seen, self._rejects, self._tally, self._tenant = handle, seen, rejects, tally, tenant
        view = handle.view
        self._layout, self._tenancy = view.layout, view.tenancy
        self._native = self._layout.is_native
        self._copies = {slot.vector for slot in view.slots.values() if slot.kind == "text_index"}
        indexes = handle.populate_config.indexes
        self._texts = {field for field, kind in indexes.items() if kind in _TEXT_INDEXES}
        self._texts |= {self._tenancy.field} if self._tenancy else set()
        self._modalities = {slot.reading.modality for slot in view.slots.values()}
        self._chosen_points = bool(handle.registry.hook.diptych_point_id.get_hookimpls())

    def items(self, documents: Iterable[object]) -> Iterator[Item]:
        """The documents that can be indexed, each id once, in the order of the source."""
        for position, raw in enumerate(documents):
            self._tally.read += 1
            try:
                item = self._accept(raw, position)
            except DocumentError as error:  # one bad document never ends a run; other errors do
                identifier = _id_of(raw)
                place = identifier or getattr(raw, "where", "")
                if identifier:
                    self._seen.mention(document_key(identifier, self._tenant, self._tenancy, self._layout))
                elif self._rejects is not None:
                    self._rejects.unidentified += 1
                    self._rejects.first_unidentified = self._rejects.first_unidentified or place
                if self._rejects is not None:
                    self._rejects.add(place, position, reason_of(error))
                continue
            if item is None:
                self._tally.duplicates += 1
            else:
                yield item

    def _accept(self, raw: object, position: int) -> Item | None:
        """The item, or None for a repeated document.

        Raises:
            DocumentError: it cannot be indexed.
        """
        document = self._checked(raw)
        read_by_encoders = self._handle.view.reading.of(document.title, document.text)
        read = {*document.media, *(["text"] if read_by_encoders else [])}
        if not read & self._modalities:
            expected = " or ".join(sorted(self._modalities))
            raise DocumentError("nothing to encode: the parts that encoders read are empty", expected=expected)
        content_hash, tenancy = document.content_hash(), self._tenancy
        tenant = tenant_of(document.metadata, tenancy) if tenancy else None
        name = document_key(document.id, tenant, tenancy, self._layout) if tenancy else document.id
        point = self._point(document, name)
        claim = self._seen.claim(name, content_hash, point)
        if claim is ClaimResult.SAME:
            return None
        if claim is ClaimResult.OTHER_CONTENT:
            raise DocumentError("duplicate id with other text", do="give it another id; the first one was kept")
        if self._chosen_points and not self._seen.claim_point(point, name):
            raise DocumentError("another document of the source has the same point id", got=repr(point))
        return Item(document, content_hash, read_by_encoders, point, position)

    def _checked(self, raw: object) -> Document:
        entry = raw
        if isinstance(raw, Row) and raw.written:
            # CSV cells as text where the collection compares text: its tenant, and keyword indexes.
            entry = {**raw, **{key: raw.written[key] for key in self._texts & raw.keys() & raw.written.keys()}}
        has_media = self._modalities != {"text"} or (isinstance(raw, Row) and raw.has_media)
        document = plain_document(_document(entry, media=has_media))
        if document.media:
            if not isinstance(document.media, Mapping):
                what, expected = "media is not a mapping", "{'image': PATH, ...}"
                raise DocumentError(what, got=brief(document.media), expected=expected)
            take = self._handle.media.take  # reads them, as the hash needs it
            media = {modality: take(modality, given) for modality, given in document.media.items()}
            document = replace(document, media=media)
        if self._tenancy is not None:
            document = with_tenant(document, self._tenancy, self._tenant)
        length, limit = len(document.text) + len(document.title), self._handle.populate_config.max_characters
        if length > limit:
            raise DocumentError("too long", got=f"{length} characters", expected=f"at most {limit}, max_characters")
        if self._native:
            require_unreserved(document)
        else:
            document = self._layout.as_written(document, document.id)
        if self._copies and (taken := self._copies & document.metadata.keys()):
            raise DocumentError(f"metadata uses the reserved key {taken.pop()!r}", do="rename it")
        return document

    def _point(self, document: Document, name: str) -> int | str:
        if not self._chosen_points:
            return self._layout.point_id(document, None, identity=name)
        try:
            return checked_point_id(self._layout.point_id(document, self._handle.registry, identity=name))
        except DocumentError:
            raise
        except Exception as error:
            raise DocumentError("a plugin could not choose the point id", got=reason_of(error)) from error


def _document(raw: object, *, media: bool) -> Document:
    """The document of an entry; a mapping's key `media` holds media in a collection with slots for them."""
    if isinstance(raw, Document):
        return raw.checked()
    if isinstance(raw, dict | Mapping):
        return Document.from_mapping(raw, media=media)
    if isinstance(raw, Rejected):
        raise DocumentError(raw.reason)
    raise DocumentError("not a document", got=type(raw).__name__, expected="a diptych.Document or a mapping")


def _id_of(raw: object) -> str:
    """The document's id as far as it is known."""
    found: Any = raw.id if isinstance(raw, Document | Rejected) else None
    if isinstance(raw, Mapping):
        found = raw.get("_id", raw.get("id"))
    if isinstance(found, int) and not isinstance(found, bool) and found.bit_length() <= LONGEST_ID:
        return str(found)
    return found if isinstance(found, str) else ""


# Checks that every store can hold a document and its point id: JSON values that Qdrant returns unchanged.


def plain_document(document: Document) -> Document:
    """The document with JSON metadata: dates and UUIDs as text, numpy's and decimal numbers as numbers.

    Raises:
        DocumentError: metadata that is not JSON or that Qdrant would change, or text that is not valid Unicode.
    """
    if not isinstance(document.metadata, dict | Mapping):
        raise DocumentError("metadata is not a mapping", got=type(document.metadata).__name__)
    if not (document.id.isascii() and document.text.isascii() and document.title.isascii()):
        for text in (document.id, document.text, document.title):
            _require_unicode(text)
    return replace(document, metadata=_mapping(document.metadata, 0)) if document.metadata else document


def checked_point_id(chosen: object) -> int | str:
    """A plugin's point id in the form in which stores return it.

    Raises:
        DocumentError: it is neither an unsigned 64-bit integer nor a UUID.
    """
    if isinstance(chosen, int) and not isinstance(chosen, bool) and 0 <= chosen <= _LARGEST:
        return chosen
    try:
        return str(uuid.UUID(str(chosen)))
    except ValueError:
        what, expected = "a plugin chose a point id that Qdrant does not take", "unsigned integer or UUID"
        raise DocumentError(what, got=brief(chosen), expected=expected) from None


def _value(value: object, level: int) -> Any:
    if level > DEEPEST:
        raise DocumentError("metadata is nested too deeply", expected=f"at most {DEEPEST} levels")
    if value is None or isinstance(value, bool):
        return value
    for kind, convert in _CONVERSIONS:
        if isinstance(value, kind):
            return convert(value, level)
    raise DocumentError("metadata is not JSON", got=type(value).__name__)


def _mapping(found: Mapping[Any, Any], level: int) -> dict[str, Any]:
    for key in found:
        if not isinstance(key, str):
            raise DocumentError("a key of the metadata is not text", got=brief(key))
        _require_unicode(key)
    return {key: _value(value, level + 1) for key, value in found.items()}


def _integer(found: int, level: int) -> int:
    if not _SMALLEST <= found <= _LARGEST:
        raise DocumentError("an integer of the metadata is beyond 64 bits", got=brief(found))
    return found


def _number(found: float, level: int) -> float:
    if not math.isfinite(found):
        raise DocumentError("a number of the metadata is not finite", got=found)
    return float(found)


def _require_unicode(found: str, level: int = 0) -> str:
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise DocumentError("text that is not valid Unicode", got=repr(found[error.start : error.end])) from error
    return found


_CONVERSIONS: tuple[tuple[Any, Callable[[Any, int], Any]], ...] = (
    (str, _require_unicode),
    (int, _integer),
    (float, _number),
    (Mapping, _mapping),
    (list | tuple, lambda found, level: [_value(value, level + 1) for value in found]),
    (datetime.date | datetime.time, lambda found, level: found.isoformat()),
    (uuid.UUID, lambda found, level: str(found)),
    (decimal.Decimal, lambda found, level: _number(float(found) if found.is_finite() else math.nan, level)),
    (np.generic, lambda found, level: _value(found.item(), level + 1)),
    (np.ndarray, lambda found, level: _value(found.tolist(), level)),
)


class ClaimResult(Enum):
    """The result of `SeenIds.claim`."""

    FIRST = auto()
    SAME = auto()
    OTHER_CONTENT = auto()


def temporary_tables(cache_kib: int, *, one_thread: bool = True) -> sqlite3.Connection:
    """A database of this process alone, with so much of it in memory; the rest goes with the process.

    Args:
        one_thread: whether SQLite refuses other threads; otherwise the caller lets in one at a time.
    """
    # "" is SQLite's private temporary file.
    base = sqlite3.connect("", isolation_level=None, check_same_thread=one_thread)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{cache_kib}"):
        base.execute(f"PRAGMA {pragma}")
    return base


class SeenIds(AbstractContextManager["SeenIds"]):
    """The ids seen so far: the newest in a dictionary, the others in a table on disk, about 60 bytes per document.

    Per document it keeps a 16-byte digest of the id, the content hash and a digest of the point. Only the thread that
    created it may use it.
    """

    def __init__(self) -> None:
        self._newest: dict[bytes, bytes] = {}
        self._base: sqlite3.Connection | None = None
        self._filter: _Filter | None = None

    def __exit__(self, *_: object) -> None:
        if self._base is not None:
            self._base.close()
        if self._filter is not None:
            self._filter.close()

    def claim(self, identifier: str, content_hash: str, point: int | str) -> ClaimResult:
        """Claim the id for this content, unless an earlier document has it."""
        key, content = _digest(identifier), bytes.fromhex(content_hash)
        known = self._known(key)
        if known in (None, MENTIONED):
            self._hold(key, b"\x01" + content + _digest(str(point)))
            return ClaimResult.FIRST
        return ClaimResult.SAME if known[1 : 1 + KEY] == content else ClaimResult.OTHER_CONTENT

    def claim_point(self, point: int | str, identifier: str) -> bool:
        """Claim the point for a document; False if another document of this run has it."""
        key, owner = _digest(str(point)), _digest(identifier)
        tables = self._tables()
        tables.execute("INSERT OR IGNORE INTO points VALUES (?, ?)", (key, owner))
        ((known,),) = tables.execute("SELECT id FROM points WHERE point = ?", (key,))
        return bool(known == owner)

    def mention(self, identifier: str) -> None:
        """Record that the source has this id, though its document cannot be indexed."""
        key = _digest(identifier)
        if self._known(key) is None:
            self._hold(key, MENTIONED)

    def accounts_for(self, identifier: str, point: int | str | None) -> bool:
        """Whether this run's source has the document at this very point; None stands for any point."""
        known = self._known(_digest(identifier))
        return known is not None and (point is None or known == MENTIONED or known[1 + KEY :] == _digest(str(point)))

    def _known(self, key: bytes) -> bytes | None:
        """The earlier entry of an id."""
        if (held := self._newest.get(key)) is not None:
            return held
        if self._filter is None or not self._filter.may_hold(key):
            return None
        row = self._tables().execute("SELECT held FROM seen WHERE id = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def _hold(self, key: bytes, held: bytes) -> None:
        self._newest[key] = held
        if len(self._newest) >= NEWEST:
            rows = b"".join(one + self._newest[one] for one in sorted(self._newest))
            self._tables().execute(
                "WITH RECURSIVE row(at) AS (SELECT 1 UNION ALL SELECT at + :all FROM row WHERE at + :all <= :bytes) "
                "INSERT OR REPLACE INTO seen SELECT substr(:rows, at, :key), substr(:rows, at + :key, :held) FROM row",
                {"rows": rows, "all": KEY + HELD, "bytes": len(rows), "key": KEY, "held": HELD},
            )
            self._filter = self._filter or _Filter()
            self._filter.add(b"".join(self._newest))
            self._newest.clear()

    def _tables(self) -> sqlite3.Connection:
        """The tables on disk, made when they are first needed: a run over a few documents needs none."""
        if self._base is None:
            self._base = temporary_tables(CACHE_KIB)
            self._base.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, held BLOB) WITHOUT ROWID")
            self._base.execute("CREATE TABLE points (point BLOB PRIMARY KEY, id BLOB) WITHOUT ROWID")
            self._base.execute("BEGIN")
        return self._base


class _Filter:
    """A Bloom filter: certain that a key is new, or unsure.

    Source: B. Bloom, Space/time trade-offs in hash coding with allowable errors (1970).
    """

    def __init__(self) -> None:
        self._bits = mmap.mmap(-1, FILTER_BITS // 8)  # pages become memory when they are first written to

    def add(self, keys: bytes) -> None:
        """Add keys, given one after the other: many at once take a fraction of the time."""
        halves = np.frombuffer(keys, "<u8").reshape(-1, 2)
        places, steps = halves[:, 0], halves[:, 1] | np.uint64(1)
        bits = np.frombuffer(self._bits, np.uint8)
        for turn in range(PLACES):
            at = (places + np.uint64(turn) * steps) & np.uint64(FILTER_BITS - 1)
            np.bitwise_or.at(bits, at >> np.uint64(3), np.uint8(1) << (at & np.uint64(7)).astype(np.uint8))

    def may_hold(self, key: bytes) -> bool:
        """Whether a key may have been added."""
        bits, place = self._bits, int.from_bytes(key[:8], "little")
        step = int.from_bytes(key[8:], "little") | 1
        for _ in range(PLACES):
            if not bits[(place & (FILTER_BITS - 1)) >> 3] & 1 << (place & 7):
                return False
            place += step
        return True

    def close(self) -> None:
        """Free the memory."""
        self._bits.close()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=KEY).digest()
