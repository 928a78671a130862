"""`SharedEdgeClient`: an embedded store that any number of processes can open; one takes the engine, the rest join."""

from __future__ import annotations

import functools
import inspect
import os
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import RLock
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from qdrant_client import models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

from diptych.errors import CollectionError, DiptychError, StoreLocked, StoreUnavailable
from diptych_edge.client.base import FolderClient, refuse_server_methods
from diptych_edge.client.edge_client import EdgeClient
from diptych_edge.client.read_only import ReadOnlyEdgeClient
from diptych_edge.engine.catalog import closed, keep_for_ever
from diptych_edge.engine.folders import ENDING, STARTING
from diptych_edge.engine.optimization import OnStage
from diptych_edge.share.address import IDENTITY, read_address
from diptych_edge.share.remote import HolderGone, RemoteEdgeClient

PATIENCE = 5.0  # seconds for a holder that was killed and is being cleared away, or does not answer
LONG = 60.0  # seconds for a holder that says that it starts or ends: it may have gigabytes to read or flush
_PAUSE = 0.02
_ANSWERS = 10  # seconds for the first answer of a holder

ATTEMPTS = 20  # holders that may end under one call before the call is suspected of ending them
_COMPLETED = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


class SharedEdgeClient(FolderClient):
    """An `EdgeClient` for more than one process.

    The first process that opens a path holds the engine and serves the others. When it ends, even by a kill, the next
    process that makes a call becomes the holder. A call whose answer was lost is repeated, which is harmless if it had
    already been done. After a fork the child sends its calls to the parent.

    Args:
        create: make a store where there is none; if false, that is an error and nothing is made.
        read_only: read a copy and share nothing; see `ReadOnlyEdgeClient`.

    Raises:
        StoreLocked: another process holds the store and does not answer.
        StoreError: see `EdgeClient`.
    """

    def __init__(self, path: str | Path, *, create: bool = True, read_only: bool = False) -> None:
        self.path = Path(path).expanduser().resolve()
        self._create, self._read_only, self._lock, self._process = create, read_only, RLock(), os.getpid()
        self._backends: list[EdgeClient | RemoteEdgeClient] = []  # the one in use, or none just now
        self._closed = False
        self._finalizer = weakref.finalize(self, _close_all, self._backends)
        self._backend()

    @property
    def is_holder(self) -> bool:
        """Whether the engine is in this process."""
        return isinstance(self._backend(), EdgeClient)

    @property
    def url(self) -> str:
        """The holder's address: `unix:SOCKET` or `http://127.0.0.1:PORT`; empty if it serves no other process."""
        self._backend()
        address = read_address(self.path)
        return address.url if address else ""

    def close(self, **kwargs: Any) -> None:
        """Close this client. Other clients, in this process or others, stay open. May be repeated."""
        self._closed = True
        self._finalizer()

    def get_metadata(self, collection_name: str) -> models.Payload:
        """The metadata alone; see `EdgeClient.get_metadata`."""
        metadata: models.Payload = self._call("get_metadata", {"collection_name": collection_name})
        return metadata

    def needs_optimizing(self, collection_name: str) -> bool:
        """Whether so many vectors lack an index that `optimize` would build one."""
        return bool(self._call("needs_optimizing", {"collection_name": collection_name}))

    def optimize(self, collection_name: str, *, wait: bool = True, on_stage: OnStage | None = None) -> Future[bool]:
        """Build missing indexes; see `EdgeClient.optimize`."""
        future: Future[bool] = self._call(
            "optimize", {"collection_name": collection_name, "wait": wait, "on_stage": on_stage}
        )
        return future

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Call the engine, in whichever process it is."""
        answer_lost = False
        for _ in range(ATTEMPTS):
            backend = self._backend()
            try:
                answer = getattr(backend, name)(**arguments)
            except HolderGone as holder_gone:
                answer_lost = answer_lost or holder_gone.sent
                self._leave(backend)
            except CollectionError as error:
                if not answer_lost:
                    raise
                # It looks at the store through whichever process holds it by now.
                return recover_answer(name, arguments, error, self)
            except (ValidationError, PydanticSerializationError, UnicodeEncodeError, RecursionError) as raw:
                raise _unsendable(name, raw) from raw
            else:
                return True if answer_lost and name == "delete_collection" else answer
        raise StoreUnavailable(
            f"each holder of the embedded store ended during {name}()",
            where=f"edge:{self.path}",
            got=f"{ATTEMPTS} of them",
            do="see what those processes printed when they ended",
        )

    def _backend(self) -> EdgeClient | RemoteEdgeClient:
        if self._process != os.getpid():
            # In a forked child: drop the parent's connection or engine.
            keep_for_ever(self._backends)
            self._backends, self._lock, self._process = [], RLock(), os.getpid()
            self._finalizer = weakref.finalize(self, _close_all, self._backends)
        backend = next(iter(self._backends), None)  # in one step: another thread may empty the list
        if backend is not None:
            return backend
        with self._lock:
            if self._closed:
                raise closed(self.path)
            if not self._backends:
                opened = ReadOnlyEdgeClient(self.path) if self._read_only else join(self.path, create=self._create)
                self._backends.append(opened)
            return self._backends[0]

    def _leave(self, backend: EdgeClient | RemoteEdgeClient) -> None:
        """Look for another holder, unless another thread is already looking."""
        with self._lock:
            if self._backends and self._backends[0] is backend:
                self._backends.clear()
                backend.close()


def _unsendable(name: str, raw: Exception) -> CollectionError:
    """The error of an argument that does not fit qdrant-client's models, or is not JSON."""
    got = str(raw)
    if isinstance(raw, ValidationError):
        first = raw.errors(include_url=False, include_input=False)[0]
        got = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return CollectionError(
        "an argument has a form that the store does not accept", where=f"{name}()", got=got, do="fix the argument"
    )


def _close_all(backends: list[EdgeClient | RemoteEdgeClient]) -> None:
    while backends:
        backends.pop().close()


def _delegating(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method of this name, forwarded to the engine; positional arguments get names, which both sides know."""
    names = tuple(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def call(self: SharedEdgeClient, *args: Any, **kwargs: Any) -> Any:
        return self._call(name, {**dict(zip(names, args, strict=False)), **kwargs})

    return call


for _name, _method in inspect.getmembers(EdgeClient, inspect.isfunction):
    if not _name.startswith("_") and _name not in {**vars(FolderClient), **vars(SharedEdgeClient)}:
        setattr(SharedEdgeClient, _name, _delegating(_name, _method))
refuse_server_methods(SharedEdgeClient)


# Calls that fail when repeated: recognises that the first try succeeded and only its answer was lost.


def recover_answer(name: str, arguments: Mapping[str, Any], error: CollectionError, client: Any) -> Any:
    """The lost answer, if `error` of the repeated call proves that the first succeeded; else raise `error`."""
    proof, answer = _DONE.get(name, ("", None))
    if not proof or proof not in error.what:
        raise error
    if name == "update_collection_aliases":
        aliases = {alias.alias_name for alias in client.get_aliases().aliases}
        renamed = [o for o in arguments["change_aliases_operations"] if isinstance(o, models.RenameAliasOperation)]
        if not aliases.issuperset(operation.rename_alias.new_alias_name for operation in renamed):
            raise error
    return answer


_DONE: dict[str, tuple[str, Any]] = {  # what the error of a repeated call says, and the answer to the first one
    "create_collection": ("already", True),
    "create_vector_name": ("already", _COMPLETED),
    "delete_vector_name": ("has no vector", _COMPLETED),
    "update_collection_aliases": ("there is no alias", True),
}


def join(path: Path, *, create: bool) -> EdgeClient | RemoteEdgeClient:
    """A client of the store: either this process becomes the holder, or the client calls the holder.

    Raises:
        StoreLocked: another process holds it and does not answer.
        StoreUnavailable: another process holds it and is stopped.
        StoreError: it cannot be opened.
    """
    start = time.monotonic()
    while True:
        try:
            return EdgeClient(path, create=create, patience=0)
        except StoreLocked as error:
            locked = error
        client = _client_of_holder(path)
        if client is not None:
            return client
        if time.monotonic() >= start + (LONG if locked.context.get("state") in (STARTING, ENDING) else PATIENCE):
            raise _no_answer(locked, path)
        time.sleep(_PAUSE)


def _client_of_holder(path: Path) -> RemoteEdgeClient | None:
    """A client of the holder; None while no holder answers."""
    address = read_address(path)
    if address is None:
        return None
    try:  # whether somebody listens is cheaper to see so than by a client, while the last holder's socket lies there
        address.connect().close()
    except OSError:
        return None
    client = RemoteEdgeClient(address)
    try:
        api: Any = client.http.client
        answer = api.request(type_=dict[str, Any], method="GET", url=IDENTITY, timeout=_ANSWERS)
        if answer["result"]["token"] == address.token:
            return client
    except (HolderGone, DiptychError, ApiException, ResponseHandlingException) as error:
        if isinstance(error, DiptychError) and "stopped" in error.context:
            client.close()
            raise
        # Else it is ending, or hangs; the lock says when it is gone.
    client.close()
    return None


def _no_answer(locked: StoreLocked, path: Path) -> StoreLocked:
    return StoreLocked(
        "the embedded store is open elsewhere, and its holder does not answer",
        where=locked.where,
        got=locked.got,
        expected=f"a process of this user that answers at the socket which {path.name}/.address names",
        do="wait until it ends, or end it: it hangs, is another user's, or opened the store with share=False",
        **locked.context,
    )
