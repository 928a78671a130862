"""`Remembered`: a cache of the last queries' vectors, so that a repeated query is not encoded again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from diptych.slots.encode import Vector
from diptych.types import SparseVector


class Remembered:
    """The most recently used texts and their vectors. Safe for threads; the vectors are read-only.

    They belong to an encoder and a generation: whoever comes with others finds nothing, and what was held is forgotten.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[str, Vector] = OrderedDict()
        self._encoder: object = None
        self._generation: object = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def encode(
        self,
        texts: Sequence[str],
        encode: Callable[[Sequence[str]], list[Vector]],
        *,
        most: int,
        encoder: object,
        generation: object,
    ) -> list[Vector]:
        """One vector per text, in order; `encode` is called once for each text that is not cached.

        Args:
            texts: of queries.
            encode: makes one vector per text.
            most: how many are held at the end.
            encoder, generation: whose vectors they are; compared by identity.
        """
        known = self._known(texts, encoder, generation)
        if len(known) < len(texts) and (missing := [text for text in dict.fromkeys(texts) if text not in known]):
            made = {text: _sealed(vector) for text, vector in zip(missing, encode(missing), strict=True)}
            self._keep(made, most, encoder, generation)
            known |= made
        return [known[text] for text in texts]

    def _known(self, texts: Sequence[str], encoder: object, generation: object) -> dict[str, Vector]:
        with self._lock:
            held = self._held
            if self._encoder is not encoder or self._generation is not generation:
                held.clear()
                self._encoder, self._generation = encoder, generation
            known = {}
            for text in texts:
                if (vector := held.get(text)) is not None:
                    known[text] = vector
                    held.move_to_end(text)
            return known

    def _keep(self, made: dict[str, Vector], most: int, encoder: object, generation: object) -> None:
        with self._lock:
            if self._encoder is encoder and self._generation is generation:  # else exchanged while this was made
                self._held.update(made)
            while len(self._held) > most:
                self._held.popitem(last=False)


def _sealed(vector: Vector) -> Vector:
    """A read-only copy, which does not keep the whole batch in memory."""
    if isinstance(vector, SparseVector):
        vector = SparseVector(vector.indices.copy(), vector.values.copy())
        vector.indices.flags.writeable = vector.values.flags.writeable = False
        return vector
    vector = vector.copy()
    vector.flags.writeable = False
    return vector
