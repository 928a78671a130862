"""The errors of an embedded store. diptych raises them too, below the same root; `diptych.errors` has the whole tree.

Each takes what happened, then where, what was found, what was expected and what to do, and says them in that order.
"""

from __future__ import annotations

from typing import ClassVar

LONGEST = 5_000  # characters of a field: what is wrong may be a whole file


class DiptychError(Exception):
    """Base of all errors; `what`, `where`, `got`, `expected`, `do` and `context` stay readable as attributes."""

    order: ClassVar[tuple[str, ...]] = ("where", "got", "expected", "do")  # in which they are printed

    def __init__(
        self,
        what: str,
        *,
        where: object = "",
        got: object = "",
        expected: object = "",
        do: str = "",
        **context: object,
    ) -> None:
        self.what, self.do = _writable(what), _writable(do)
        self.where, self.got, self.expected = (_writable(_text_of(field)) for field in (where, got, expected))
        self.context = context
        super().__init__(self._text())

    def _text(self) -> str:
        parts = ((label, getattr(self, label)) for label in self.order)
        return "\n".join([self.what, *(f"  {label}: {value}" for label, value in parts if value)])


def brief(value: object, length: int = 80) -> str:
    """`repr(value)`, shortened; the type for values without a usable repr, such as endless nests."""
    try:
        return repr(value)[:length]
    except (ValueError, RecursionError):
        return f"a value of type {type(value).__name__}"


def _text_of(field: object) -> str:
    try:
        return str(field)[:LONGEST]
    except (ValueError, RecursionError):
        return brief(field)


def _writable(text: str) -> str:
    """The text with lone surrogates escaped, so that no error fails when it is printed, logged or sent."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class StoreError(DiptychError):
    """Something is wrong with the store."""


class StoreLocked(StoreError):
    """Another process has the embedded store open."""


class StoreUnavailable(StoreError):
    """The store does not answer."""


class StoreDamaged(StoreError):
    """Files of the embedded store are missing or changed. `diptych doctor --repair` repairs them."""


class StoreFull(StoreError):
    """The disk of the embedded store has too little space; `context` has the bytes `needed` and `free`."""


class StoreReadOnly(StoreError):
    """The store was opened for reading, and the call would change it."""


class StoreUnsupported(StoreError):
    """This store cannot do that; the text names one that can."""


class CollectionError(DiptychError):
    """Something is wrong with a collection."""


class CollectionNotFound(CollectionError):
    """There is no collection of this name."""


class SearchError(DiptychError):
    """A search that cannot be run."""
