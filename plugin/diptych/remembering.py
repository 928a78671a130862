"""`Remembered`: the vectors of a slot's last queries, so that a query asked again is not encoded again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from diptych.encoding import Vector
from diptych.types import SparseVector


class Remembered:
    """Texts and their vectors, those asked for last; threads may share one. The vectors cannot be written to.

    They belong to an *owner*: whoever comes for another one finds nothing, and what was held is forgotten.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[str, Vector] = OrderedDict()
        self._owner: tuple[Any, ...] = ()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def encode(
        self,
        texts: Sequence[str],
        encode: Callable[[Sequence[str]], list[Vector]],
        *,
        most: int,
        owner: tuple[Any, ...],
    ) -> list[Vector]:
        """One vector per text, in order; `encode` is asked once for each text that is not held.

        Args:
            texts: of queries.
            encode: makes one vector per text.
            most: how many are held at the end.
            owner: what makes vectors as they are, such as the encoder; compared by identity.
        """
        known = self._known(texts, owner)
        if missing := [text for text in dict.fromkeys(texts) if text not in known]:
            made = {text: _sealed(vector) for text, vector in zip(missing, encode(missing), strict=True)}
            self._keep(made, most, owner)
            known |= made
        return [known[text] for text in texts]

    def _known(self, texts: Sequence[str], owner: tuple[Any, ...]) -> dict[str, Vector]:
        with self._lock:
            if not _same(owner, self._owner):
                self._held.clear()
                self._owner = owner
            known = {text: self._held[text] for text in texts if text in self._held}
            for text in known:
                self._held.move_to_end(text)
            return known

    def _keep(self, made: dict[str, Vector], most: int, owner: tuple[Any, ...]) -> None:
        with self._lock:
            if _same(owner, self._owner):  # else the encoder was exchanged while this was made
                self._held.update(made)
            while len(self._held) > most:
                self._held.popitem(last=False)


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _sealed(vector: Vector) -> Vector:
    """A copy that nobody can write to, and that does not keep its whole batch in memory."""
    if isinstance(vector, SparseVector):
        vector = SparseVector(vector.indices.copy(), vector.values.copy())
        vector.indices.flags.writeable = vector.values.flags.writeable = False
        return vector
    vector = vector.copy()
    vector.flags.writeable = False
    return vector
