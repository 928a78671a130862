"""`EmbeddingCache`: vectors of documents on disk, shared by all collections and processes of a user."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from diptych.config.models import CacheConfig
from diptych.metadata.models import Generation
from diptych.protocols import Fingerprint
from diptych.slots.cache_table import (
    FILE,
    CacheError,
    OpenTable,
    Usage,
    VectorTable,
    cache_folder,
    is_damage,
    open_table,
    rename_damaged,
)
from diptych.slots.canaries import likenesses
from diptych.slots.encode import Given, Input, Vector, is_finite
from diptych.types import SparseVector

_HEAD = struct.Struct("<cI")
_SUM = struct.Struct("<I")
_FLOAT, _INDEX = np.dtype("<f4"), np.dtype("<u4")

T = TypeVar("T")
DECLARED = "declared:"  # prefix of fingerprints that the host derives from what an adapter declares
SAME_MODEL = 0.9999  # likeness of canaries: endpoints answer with other last digits from call to call


class EmbeddingCache:
    """Stores document vectors so that no run, process, collection or swap encodes the same text again.

    The file is opened when it is first needed. If it fails, work continues without the cache; `take_warnings` says so.

    Args:
        folder: where the file lies; made when it is first needed.
        limit: bytes it may take.
        clock: seconds since the epoch; the least recently used entries are dropped first.
    """

    def __init__(self, folder: Path, *, limit: int, clock: Callable[[], float] = time.time) -> None:
        self.folder, self.limit = folder, limit
        self._clock, self._lock = clock, threading.Lock()
        self._open: OpenTable | None = None
        self._closing: Callable[[], object] = lambda: None
        self._process = os.getpid()
        self._works, self._warnings = True, list[str]()

    @classmethod
    def open(cls, config: CacheConfig) -> EmbeddingCache | None:
        """The cache that the config names; None when config or environment turn it off.

        Raises:
            ConfigError: `cache.path` refers to a variable that is not set.
        """
        folder = cache_folder(config)
        return cls(folder, limit=config.size) if folder else None

    def __repr__(self) -> str:
        return f"EmbeddingCache({str(self.folder)!r}, limit={self.limit})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The path of the cache file."""
        return self.folder / FILE

    def take_warnings(self) -> list[str]:
        """Failures of the cache since the last call, a sentence each. Work continues without the cache."""
        with self._lock:
            warnings, self._warnings = self._warnings, []
        return warnings

    def namespace(
        self, generation: Generation, fingerprint: Fingerprint, *, proven: bool = True, changeable: bool = False
    ) -> Namespace | None:
        """The part for documents of one encoder; None if they may not be cached.

        If the model behind a name can change, canaries are part of the key: two models share a part only if their
        canaries are alike, and an encoder that was not checked has none.

        Args:
            generation: the collection's record of the encoder.
            fingerprint: the encoder's own; its numerics may differ from those of the generation.
            proven: whether it makes the generation's canaries.
            changeable: another model may appear behind the same name, as behind a remote endpoint.
        """
        # Vectors of encoders with corpus statistics follow the corpus.
        if generation.kind not in ("dense", "sparse", "multivector") or generation.statistics is not None:
            return None
        space = fingerprint.documents or fingerprint.space
        name = digest(space, fingerprint.numerics, generation.kind, "document")
        # Another model can hide behind a fingerprint that an adapter only declares.
        if changeable or fingerprint.space.startswith(DECLARED):
            recorded = generation.canaries
            if recorded is None or not proven or fingerprint.space != generation.space:
                return None
            declared, canaries = name, json.dumps([recorded.edition, *recorded.document])
            known = self._try(lambda table: table.model(declared, canaries, alike), canaries)
            name = digest(declared.hex(), known)
        return Namespace(self, name, f"{generation.adapter}: {Fingerprint(space, fingerprint.numerics)}")

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """The cached vectors among these keys."""
        packed = self._try(partial(VectorTable.find, keys=[*dict.fromkeys(keys)]), dict[bytes, bytes]())
        vectors, damaged = dict[bytes, Vector](), list[bytes]()
        for key, data in packed.items():
            if (vector := unpack(key, data)) is None:
                damaged.append(key)
            else:
                vectors[key] = vector
        if damaged:
            self._try(partial(VectorTable.drop, keys=damaged), None)
        return vectors

    def store(self, namespace: Namespace, vectors: Mapping[bytes, Vector]) -> None:
        """Store the vectors; those that are not finite are left out."""
        packed = [(key, data) for key, vector in vectors.items() if (data := pack(key, vector)) is not None]
        if packed:
            self._try(lambda table: table.store(namespace.digest, namespace.label, packed), None)

    def usage(self) -> list[Usage]:
        """Usage by space, the largest first."""
        return self._try(VectorTable.usage, [])

    def size(self) -> int:
        """Size of the file."""
        return self._try(VectorTable.size, 0)

    def clear(self) -> None:
        """Empty the cache."""
        self._try(VectorTable.clear, None)

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        with self._lock:
            self._open = None
            closing = self._closing
        closing()

    def _try(self, call: Callable[[VectorTable], T], default: T) -> T:
        """The result of `call`, or `default` once the cache has failed."""
        if not self._works:
            return default
        try:
            with self._lock:
                if self._open is None or self._process != os.getpid():
                    self._inherited = self._open  # by a fork: never to be used or closed here, so never let go either
                    self._open = opened = open_table(self.folder, limit=self.limit, clock=self._clock)
                    self._process = os.getpid()
                    self._closing = weakref.finalize(self, _close, opened, self._process)
                    self._warnings += [opened.notice] if opened.notice else []
                table = self._open.table
            return call(table)
        except Exception as error:  # of a damaged file anything may come, and it must cost no document
            with self._lock:
                is_first, self._works = self._works, False
            if not is_first:
                return default
            self.close()
            replaced = False
            with suppress(CacheError, OSError, sqlite3.Error):
                replaced = is_damage(error) and rename_damaged(self.folder)
            note = "; the next run replaces it" if replaced else ""
            expected = isinstance(error, CacheError | OSError | sqlite3.Error)
            reason = "; ".join(str(error).split("\n  ")) if expected else f"{type(error).__name__}: {error}"
            self._warnings.append(f"the embedding cache was left out{note}: {reason} ({self.path})")
            return default


def _close(opened: OpenTable, process: int) -> None:
    """Close the connections of this process, ignoring errors: a failed write has been reported already."""
    if process == os.getpid():
        with suppress(OSError, sqlite3.Error):
            opened.close()


class Namespace:
    """The cached documents of one encoder. Serves several threads.

    Args:
        cache: where vectors lie.
        digest: of all that decides the vectors; 32 bytes.
        label: the same in words, for `diptych cache`.
    """

    def __init__(self, cache: EmbeddingCache, digest: bytes, label: str) -> None:
        self.digest, self.label = digest, label
        self.hits = self.misses = 0
        self._cache, self._lock = cache, threading.Lock()

    def __repr__(self) -> str:
        return f"Namespace({self.label!r}, hits={self.hits}, misses={self.misses})"

    def encode(self, inputs: Sequence[Given], encode: Callable[[Sequence[Given]], Sequence[Vector]]) -> list[Vector]:
        """A vector for each input, in order; `encode` is called with the inputs that are not cached, each once.

        What `encode` raises passes through, and nothing of that call is kept. `hits` and `misses` count inputs: a text
        that comes twice in one call and is not kept yet is one of each.
        """
        keys = [self.key(text) for text in inputs]
        vectors = self._cache.find(keys)
        missing = {key: text for key, text in zip(keys, inputs, strict=True) if key not in vectors}
        if missing:
            encoded = dict(zip(missing, encode(list(missing.values())), strict=True))
            self._cache.store(self, encoded)
            vectors |= encoded
        with self._lock:
            self.misses += len(missing)
            self.hits += len(keys) - len(missing)
        return [vectors[key] for key in keys]

    def keep(self, inputs: Sequence[Input], vectors: Sequence[Vector]) -> None:
        """Store a vector for each input, as `encode` does."""
        self._cache.store(self, dict(zip(map(self.key, inputs), vectors, strict=True)))

    def key(self, given: Input) -> bytes:
        """The key of the vector of a text or of media, 16 bytes; of media it follows from their bytes."""
        text = given if isinstance(given, str) else f"\0{given.key}"
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16, key=self.digest).digest()


def alike(one: str, other: str) -> bool:
    """Whether two sets of canaries are of one model: identical bits where possible, else equal but for noise."""
    (edition, *canaries), (other_edition, *other_canaries) = json.loads(one), json.loads(other)
    return bool(edition == other_edition and min(likenesses(canaries, other_canaries), default=0.0) >= SAME_MODEL)


def digest(*parts: str) -> bytes:
    """32 bytes."""
    return hashlib.blake2b(json.dumps(parts).encode(errors="surrogatepass"), digest_size=32).digest()


def pack(key: bytes, vector: Vector) -> bytes | None:
    """The bytes of `vector` under `key`; None for values that are not cached: non-finite numbers, other types."""
    if not is_finite(vector):
        return None
    values = vector.values if isinstance(vector, SparseVector) else vector
    if values.dtype != np.float32:
        return None
    numbers = values.astype(_FLOAT, copy=False).tobytes()
    if isinstance(vector, SparseVector):
        if vector.indices.dtype != np.uint32:
            return None
        body = _HEAD.pack(b"s", 0) + vector.indices.astype(_INDEX, copy=False).tobytes() + numbers
    elif vector.ndim in (1, 2) and vector.size:
        body = (_HEAD.pack(b"d", 0) if vector.ndim == 1 else _HEAD.pack(b"m", vector.shape[1])) + numbers
    else:
        return None
    return _SUM.pack(zlib.crc32(body, zlib.crc32(key))) + body


def unpack(key: bytes, packed: object) -> Vector | None:
    """The vector, writable; None when the bytes are missing, damaged, or belong to another key."""
    if not isinstance(packed, bytes):
        return None
    body = packed[_SUM.size :]
    if len(body) < _HEAD.size or _SUM.unpack_from(packed)[0] != zlib.crc32(body, zlib.crc32(key)):
        return None
    form, dimension = _HEAD.unpack_from(body)
    if form == b"s":
        count = (len(body) - _HEAD.size) // (_INDEX.itemsize + _FLOAT.itemsize)
        indices = np.frombuffer(body, _INDEX, count, _HEAD.size).astype(np.uint32)
        values = np.frombuffer(body, _FLOAT, count, _HEAD.size + count * _INDEX.itemsize)
        return SparseVector(indices, values.astype(np.float32))
    numbers = np.frombuffer(body, _FLOAT, -1, _HEAD.size).astype(np.float32)
    return numbers.reshape(-1, dimension) if form == b"m" else numbers
