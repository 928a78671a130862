"""`QueryCache`: a cache of the last queries' vectors, so that a repeated query is not encoded again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from diptych.slots.encode import Given, Input, Vector
from diptych.types import SparseVector


class QueryCache:
    """The most recently used texts and their vectors. Safe for threads; the vectors are read-only.

    They belong to one encoder and one generation. A call with another encoder or generation empties the cache.
    """

    def __init__(self) -> None:
        self._vectors: OrderedDict[Input, Vector] = OrderedDict()
        self._encoder: object = None
        self._generation: object = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def encode(
        self,
        texts: Sequence[Given],
        encode: Callable[[Sequence[Given]], list[Vector]],
        *,
        size: int,
        encoder: object,
        generation: object,
    ) -> list[Vector]:
        """One vector per text, in order; `encode` is called once for each text that is not cached.

        Args:
            texts: of queries.
            encode: makes one vector per text.
            size: how many vectors are kept.
            encoder, generation: whose vectors they are; compared by identity.
        """
        cached = self._cached(texts, encoder, generation)
        if len(cached) < len(texts) and (missing := [text for text in dict.fromkeys(texts) if text not in cached]):
            encoded: dict[Input, Vector] = {
                text: _read_only(vector) for text, vector in zip(missing, encode(missing), strict=True)
            }
            self._store(encoded, size, encoder, generation)
            cached |= encoded
        return [cached[text] for text in texts]

    def _cached(self, texts: Sequence[Input], encoder: object, generation: object) -> dict[Input, Vector]:
        with self._lock:
            vectors = self._vectors
            if self._encoder is not encoder or self._generation is not generation:
                vectors.clear()
                self._encoder, self._generation = encoder, generation
            cached = {}
            for text in texts:
                if (vector := vectors.get(text)) is not None:
                    cached[text] = vector
                    vectors.move_to_end(text)
            return cached

    def _store(self, vectors: dict[Input, Vector], size: int, encoder: object, generation: object) -> None:
        with self._lock:
            if self._encoder is encoder and self._generation is generation:  # else exchanged while this was made
                self._vectors.update(vectors)
            while len(self._vectors) > size:
                self._vectors.popitem(last=False)


def _read_only(vector: Vector) -> Vector:
    """A read-only copy, which does not keep the whole batch in memory."""
    if isinstance(vector, SparseVector):
        vector = SparseVector(vector.indices.copy(), vector.values.copy())
        vector.indices.flags.writeable = vector.values.flags.writeable = False
        return vector
    vector = vector.copy()
    vector.flags.writeable = False
    return vector
