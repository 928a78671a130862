"""Opens the store of a command: that of `--store`, or that of the config file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.ui.session import Session

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


@contextmanager
def opened_store(
    session: Session, config: Path, store: str | None, *, create: bool = False
) -> Iterator[tuple[QdrantBase, str | None]]:
    """The store, and the collection that the config names; None with a URL.

    Raises:
        ConfigError, StoreError: see diptych.stores.
    """
    from diptych.stores import open_store, open_store_of

    if store is not None:
        client, name = open_store(store, registry=session.registry, create=create), None
    else:
        loaded = session.config(config)
        client, name = open_store_of(loaded, registry=session.registry, create=create), loaded.collection
    try:
        yield client, name
    finally:
        client.close()
