"""The nodes of a server, one URL each: when a node fails to answer, the call moves to the next one.

Within a `deadline` no call waits longer than the deadline allows, on any node, over HTTP and gRPC.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from qdrant_client.qdrant_remote import QdrantRemote
from qdrant_client.uploader.rest_uploader import RestBatchUploader

from diptych.runtime.sockets import EVENT_HOOKS
from diptych.stores.server_errors import connection_broke, gave_no_answer, is_temporary, was_not_sent

T = TypeVar("T")
SEARCH_TIMEOUT = 10  # seconds that a search waits for a server, unless its client says otherwise
LEAST = 0.05  # seconds that a call has at least
LOOK = 2.0  # seconds that each of several nodes has to show its metadata
SKIPPED = 5.0  # seconds for which a node that did not answer is not asked for it again
RECONNECT = {"grpc.initial_reconnect_backoff_ms": 200, "grpc.max_reconnect_backoff_ms": 1000}
EXPIRY = 4.0  # seconds that an unused connection is kept; a server closes it after 5
_DUE: ContextVar[float] = ContextVar("due", default=math.inf)
_WAITS: ContextVar[Waits | None] = ContextVar("waits", default=None)


class deadline:  # noqa: N801  # classes, since every search enters three of these and a generator costs more
    """Within the block, server calls end after so many seconds; an earlier deadline around it still applies."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._token = _DUE.set(min(_DUE.get(), time.monotonic() + self._seconds))

    def __exit__(self, *_: object) -> None:
        _DUE.reset(self._token)


class search_deadline(deadline):  # noqa: N801
    """The deadline of a search through this client, `search_timeout` of the config.

    Within `one_search` it allows what the search has not yet waited.
    """

    __slots__ = ("_began", "_waits")

    def __init__(self, client: object) -> None:
        super().__init__(getattr(client, "search_timeout", SEARCH_TIMEOUT))

    def __enter__(self) -> None:
        waits = _WAITS.get()
        self._waits = None if waits is None or waits.running else waits
        if self._waits is not None:
            self._seconds -= self._waits.seconds
            self._began, self._waits.running = time.monotonic(), True
        super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._waits is not None:
            self._waits.seconds += time.monotonic() - self._began
            self._waits.running = False


@dataclass
class Waits:
    """What a search has waited for the store.

    Args:
        seconds: in all its calls that have ended.
        running: whether a call is under way.
    """

    seconds: float = 0.0
    running: bool = False


class one_search:  # noqa: N801
    """Within the block, all calls of a search together wait at most `search_timeout`; encoders take their own time."""

    __slots__ = ("_before",)

    def __enter__(self) -> Waits:
        self._before = _WAITS.get()
        _WAITS.set(waits := Waits())
        return waits

    def __exit__(self, *_: object) -> None:
        _WAITS.set(self._before)  # a token would refuse to, where an abandoned coroutine ends in another context


def seconds_left(most: float = math.inf) -> float:
    """Seconds until the deadline, at most `most`."""
    return max(min(most, _DUE.get() - time.monotonic()), LEAST)


def has_deadline() -> bool:
    """Whether this thread or coroutine is within a `deadline`."""
    return not math.isinf(_DUE.get())


class Uploader(RestBatchUploader):
    """What `upload_points` and `upload_collection` send points with, over connections of its own.

    qdrant-client leaves those to the garbage collector. It gives connections to this machine up after each request, but
    those of a `Node` are kept.
    """

    def process(self, items: Iterable[Any]) -> Iterable[bool]:
        """Send the points, then close the connections."""
        try:
            yield from super().process(items)
        finally:
            self.openapi_client.close()


class Node(QdrantRemote):
    """One node's connections, which are kept and used again, and whose calls keep to the deadline.

    For an address of this machine qdrant-client would make a connection for each call. Its pool then closes every
    connection that it finds unused, at times one that another thread has just been given: "Bad file descriptor".
    """

    def __init__(self, **options: Any) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=EXPIRY)
        # gRPC's own pauses grow from 1 s to 120 s: a server that was down for a minute was asked again only 10 s after
        # it was back, while HTTP reaches it at once.
        reconnect = {**RECONNECT, **(options.pop("grpc_options", None) or {})}
        options |= {"limits": limits, "event_hooks": EVENT_HOOKS, "grpc_options": reconnect}
        super().__init__(check_compatibility=False, **options)
        self.skipped_until = 0.0
        self.openapi_client.client.add_middleware(_within_deadline)

    def answer(self, method: str, request: Any) -> Any:
        """Send a request of the service of points over gRPC; the server's answer."""
        return getattr(self.grpc_points, method)(request, timeout=self._timeout)

    @property
    def _updater_class(self) -> Any:
        """What uploads are sent with."""
        return super()._updater_class if self._prefer_grpc else Uploader

    @property
    def _timeout(self) -> Any:  # a float, where qdrant-client has an int: gRPC takes fractions of a second
        """The timeout for calls over gRPC."""
        return seconds_left(self._most)

    @_timeout.setter
    def _timeout(self, seconds: float) -> None:
        self._most = seconds


class Nodes:
    """The nodes, and the current one, which all threads use until it fails to answer.

    Args:
        places: the options of `QdrantRemote` for each.
    """

    def __init__(self, places: Sequence[dict[str, Any]]) -> None:
        plain = all(str(place.get("url", "")).startswith("http:") or place.get("https") is False for place in places)
        given = {"verify": False} if plain else {}  # certificates take 50 ms to load
        self._all = [Node(**given, **place) for place in places]
        self.current = self._all[0]

    def read(self, call: Callable[[], T]) -> T:
        """The result of a call that only reads; when a node fails, the next one is tried, each once.

        A connection that broke may have been closed while nothing was sent: then a single node is called again.
        """
        tries = max(2, len(self._all))
        for left in range(tries, 0, -1):
            node, alone = self.current, len(self._all) == 1
            try:
                with deadline(seconds_left() / (1 if alone else left)):
                    return call()
            except Exception as error:
                elsewhere = not alone and (gave_no_answer(error) or is_temporary(error))
                if left == 1 or not (elsewhere or connection_broke(error)):
                    raise
                self._leave(node)
        raise AssertionError("the last try returns or raises")

    def write(self, call: Callable[[], T]) -> T:
        """The result of a call that may write; moves to the next node only if nothing can have been sent."""
        for left in range(len(self._all), 0, -1):
            node = self.current
            try:
                return call()
            except Exception as error:
                if gave_no_answer(error):
                    self._leave(node)  # the next attempt uses the next node
                if left == 1 or not was_not_sent(error):
                    raise
        raise AssertionError("the last try returns or raises")

    def each(self, call: Callable[[Node], T]) -> list[T]:
        """The results of a read at every node, the current one first; nodes that do not answer are left out."""
        if len(self._all) == 1:
            return [self.read(lambda: call(self.current))]
        found, failure = list[T](), Exception("no node was asked")
        current, now = self.current, time.monotonic()
        others = [node for node in self._all if node is not current and node.skipped_until <= now]
        for node in (current, *others):
            try:
                with deadline(LOOK):
                    found.append(call(node))
            except Exception as error:
                if not (gave_no_answer(error) or is_temporary(error)):
                    raise
                node.skipped_until, failure = time.monotonic() + SKIPPED, error
        if not found:
            raise failure
        return found

    def close(self, **options: Any) -> None:
        """Close all connections."""
        for node in self._all:
            node.close(**options)

    def _leave(self, node: Node) -> None:
        if self.current is node:  # else another thread was faster
            self.current = self._all[(self._all.index(node) + 1) % len(self._all)]


def _within_deadline(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
    given = request.extensions.get("timeout") or {}
    bounds = {step: seconds_left(math.inf if most is None else most) for step, most in given.items()}
    finite = {step: None if math.isinf(most) else most for step, most in bounds.items()}
    request.extensions = {**request.extensions, "timeout": finite}
    return send(request)
