"""`Namespace`: the part of the cache that one encoder's documents have, and the way to encode through it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from diptych.encoding import Vector
from diptych.metadata import Generation
from diptych.protocols import Fingerprint

if TYPE_CHECKING:
    from diptych.cache.cache import EmbeddingCache

DECLARED = "declared:"  # how the host's own fingerprint begins, made of what an adapter declares
Encode = Callable[[Sequence[str]], Sequence[Vector]]


class Namespace:
    """Documents of one encoder. Serves several threads.

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

    def encode(self, inputs: Sequence[str], encode: Encode) -> list[Vector]:
        """A vector for each input, in order; `encode` is called with those that are not kept yet, each once.

        What `encode` raises passes through, and nothing of that call is kept. `hits` and `misses` count inputs: a text
        that comes twice in one call and is not kept yet is one of each.
        """
        keys = [self.key(text) for text in inputs]
        vectors = self._cache.find(keys)
        missing = {key: text for key, text in zip(keys, inputs, strict=True) if key not in vectors}
        if missing:
            fresh = dict(zip(missing, encode(list(missing.values())), strict=True))
            self._cache.store(self, fresh)
            vectors |= fresh
        with self._lock:
            self.misses += len(missing)
            self.hits += len(keys) - len(missing)
        return [vectors[key] for key in keys]

    def key(self, text: str) -> bytes:
        """The key of a text's vector, 16 bytes."""
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16, key=self.digest).digest()


def digest_of(generation: Generation, now: Fingerprint, *, proven: bool, changeable: bool) -> bytes | None:
    """The digest of all that decides an encoder's vectors of documents; None when nothing may be kept of it.

    Encoders with corpus statistics are never kept: their vectors follow the corpus. An encoder that is `changeable`, or
    whose fingerprint is only what it declares, can become another one behind an unchanged name. So the vectors that it
    made of the guard's texts count too, and unless it has proven that it still makes them nothing is kept.
    """
    if generation.kind not in ("dense", "sparse", "multivector") or generation.statistics is not None:
        return None
    parts = [now.documents or now.space, now.numerics, generation.kind, "document"]
    if changeable or now.space.startswith(DECLARED):
        if generation.canaries is None or not proven or now.space != generation.space:
            return None
        parts += generation.canaries.document
    return hashlib.blake2b(json.dumps(parts).encode(errors="surrogatepass"), digest_size=32).digest()


def label_of(generation: Generation, now: Fingerprint) -> str:
    """Adapter and fingerprint in words."""
    return f"{generation.adapter}: {Fingerprint(now.documents or now.space, now.numerics)}"
