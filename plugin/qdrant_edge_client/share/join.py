"""Opens a store: takes the engine if nobody holds it, else connects to the holder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

from qdrant_edge_client.client.edge_client import EdgeClient
from qdrant_edge_client.engine.lock import ENDING, STARTING
from qdrant_edge_client.errors import DiptychError, StoreLocked
from qdrant_edge_client.share.address import Address, read_address
from qdrant_edge_client.share.holder import IDENTITY
from qdrant_edge_client.share.remote import HolderGone, RemoteEdgeClient

PATIENCE = 5.0  # seconds for a holder that was killed and is being cleared away, or does not answer
LONG = 60.0  # seconds for a holder that says that it starts or ends: it may have gigabytes to read or flush
_PAUSE = 0.02
_ANSWERS = 10  # seconds for the first answer of a holder


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
    if address is None or not _listens(address):
        return None
    client = RemoteEdgeClient(address)
    try:
        if _token(client) == address.token:
            return client
    except (HolderGone, DiptychError, ApiException, ResponseHandlingException) as error:
        if isinstance(error, DiptychError) and "stopped" in error.context:
            client.close()
            raise
        # Else it is ending, or hangs; the lock says when it is gone.
    client.close()
    return None


def _listens(address: Address) -> bool:
    """Whether somebody listens: cheaper to find out than by a client, while the last holder's socket lies there."""
    try:
        address.connect().close()
    except OSError:
        return False
    return True


def _token(client: RemoteEdgeClient) -> Any:
    api: Any = client.http.client
    answer = api.request(type_=dict[str, Any], method="GET", url=IDENTITY, timeout=_ANSWERS)
    return answer["result"]["token"]


def _no_answer(locked: StoreLocked, path: Path) -> StoreLocked:
    return StoreLocked(
        "the embedded store is open elsewhere, and its holder does not answer",
        where=locked.where,
        got=locked.got,
        expected=f"a process of this user that answers at the socket which {path.name}/.address names",
        do="wait until it ends, or end it: it hangs, is another user's, or opened the store with share=False",
        **locked.context,
    )
