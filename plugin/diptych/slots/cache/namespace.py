"""`Namespace`: the part of the cache that one encoder's documents have, and the way to encode through it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from diptych.metadata.models import Generation
from diptych.protocols import Fingerprint
from diptych.slots.canaries import likenesses
from diptych.slots.encode import Vector

if TYPE_CHECKING:
    from diptych.slots.cache.embedding_cache import EmbeddingCache

DECLARED = "declared:"  # how the host's own fingerprint begins, made of what an adapter declares
SAME_MODEL = 0.9999  # likeness of canaries: endpoints answer with other last digits from call to call
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


def name_of(generation: Generation, now: Fingerprint) -> bytes | None:
    """The digest of what an encoder says of its vectors of documents; None when nothing may be kept of it.

    Encoders with corpus statistics are never kept: their vectors follow the corpus.
    """
    if generation.kind not in ("dense", "sparse", "multivector") or generation.statistics is not None:
        return None
    return digest(now.documents or now.space, now.numerics, generation.kind, "document")


def can_change(now: Fingerprint) -> bool:
    """Whether the fingerprint is only what an adapter declares, so that another model can hide behind it."""
    return now.space.startswith(DECLARED)


def canaries_of(generation: Generation, now: Fingerprint) -> str | None:
    """What a generation's encoder made of the guard's texts; None when it is not known of the encoder of now."""
    known = generation.canaries
    if known is None or now.space != generation.space:
        return None
    return json.dumps([known.edition, *known.document])


def alike(one: str, other: str) -> bool:
    """Whether two canaries are of one model: bit for bit where it works so, and else but for noise."""
    (edition, *now), (other_edition, *then) = json.loads(one), json.loads(other)
    return bool(edition == other_edition and min(likenesses(now, then), default=0.0) >= SAME_MODEL)


def digest(*parts: str) -> bytes:
    """32 bytes."""
    return hashlib.blake2b(json.dumps(parts).encode(errors="surrogatepass"), digest_size=32).digest()


def label_of(generation: Generation, now: Fingerprint) -> str:
    """Adapter and fingerprint in words."""
    return f"{generation.adapter}: {Fingerprint(now.documents or now.space, now.numerics)}"
