"""`Upload`: writes points in requests, several of them under way at a server, and finds the points that it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from diptych.errors import DocumentError
from diptych.populate.points import Ready, requests
from diptych.populate.rejects import reason_of
from diptych.populate.store import Refused, Store
from diptych.populate.validate import Item
from diptych.stores.versions import keeps_log

IN_FLIGHT, AT_ONCE = 3, 256  # requests on their way to a server, and points of each
Look = Callable[[], frozenset[str]]


class Refusal(NamedTuple):
    """A document that cannot be written: the reason, and whether the document itself or the store is at fault."""

    item: Item
    reason: str
    own: bool


class Stale(Exception):
    """A write was refused because the set of vectors to write has changed."""


class Upload:
    """Writes points. While a server handles some requests, the next are prepared; other stores get one at a time.

    Args:
        store: the collection.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writers = ThreadPoolExecutor(IN_FLIGHT, "write") if keeps_log(store.client) else None

    @property
    def overlaps(self) -> bool:
        """Whether the store takes several calls at once. Reading local mode during a write breaks it."""
        return self._writers is not None

    def begin(self, ready: Sequence[Ready], known: frozenset[str], look: Look) -> list[Future[list[Refusal]]]:
        """Begin to write points.

        Args:
            known: the vectors that they have.
            look: reads which vectors are to be written now.
        """
        if self._writers is None:
            return [_done(self._written, batch, known, look) for batch in requests(ready)]
        return [self._writers.submit(self._written, batch, known, look) for batch in requests(ready, AT_ONCE)]

    def close(self) -> None:
        """Wait until no request is on its way."""
        if self._writers is not None:
            self._writers.shutdown()

    def _written(self, batch: Sequence[Ready], known: frozenset[str], look: Look) -> list[Refusal]:
        """Write the points; a refused request is halved until the faulty points are alone.

        Raises:
            Stale: it named a vector that is to be written no more, so the points are not at fault.
        """
        try:
            self._store.upsert([point for _, point in batch])
        except Refused as refusal:
            if look() != known:
                raise Stale from refusal
            if len(batch) == 1:
                cause = refusal.__cause__ or refusal
                return [Refusal(batch[0][0], reason_of(cause), isinstance(cause, DocumentError))]
            middle = len(batch) // 2
            return [*self._written(batch[:middle], known, look), *self._written(batch[middle:], known, look)]
        return []


def refusals(sent: Sequence[Future[list[Refusal]]]) -> list[Refusal]:
    """What the store refused of these requests, once all of them are over.

    None may come later than what is written anew after a failure: it would undo that.
    """
    wait(sent)
    return [refusal for one in sent for refusal in one.result()]


def _done(
    write: Callable[[Sequence[Ready], frozenset[str], Look], list[Refusal]],
    batch: Sequence[Ready],
    known: frozenset[str],
    look: Look,
) -> Future[list[Refusal]]:
    """The write, which has been made in this thread."""
    future = Future[list[Refusal]]()
    try:
        future.set_result(write(batch, known, look))
    except BaseException as error:
        future.set_exception(error)
    return future
