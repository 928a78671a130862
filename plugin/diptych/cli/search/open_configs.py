"""Opens the collections of several config files, whose pipelines `evaluate` and `judge` compare.

Imports the Qdrant client, so commands import it only when they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from diptych.cli.ui.session import Session
from diptych.collection.collection import Collection
from diptych.handle.collection_handle import CollectionHandle
from diptych.stores import open_store_of


@contextmanager
def opened(session: Session, configs: Sequence[Path]) -> Iterator[list[Collection]]:
    """Open the collections of these config files: each store once, and each model loaded once.

    Raises:
        ConfigError, StoreError, CollectionError: see diptych.collection.collection.
    """
    if len(configs) == 1:
        with session.collection(configs[0], None, None) as collection:
            yield [collection]
        return
    registry, clients, collections = session.registry.sharing(), {}, []
    with ExitStack() as stack:
        for path in configs:
            config = session.config(path)
            place = repr((config.urls, config.api_key and config.api_key.get_secret_value()))
            if place not in clients:
                client = open_store_of(config, registry=registry, create=False)
                clients[place] = stack.enter_context(closing(client))
            handle = CollectionHandle(clients[place], config.collection, config, registry)
            collections.append(stack.enter_context(Collection(handle)))
        yield collections


def labels(configs: Sequence[Path]) -> list[str]:
    """A short name for each config file: its file name, with its folder if two files have the same name."""
    stems = [path.stem for path in configs]
    return [f"{p.absolute().parent.name}/{p.stem}" if stems.count(p.stem) > 1 else p.stem for p in configs]
