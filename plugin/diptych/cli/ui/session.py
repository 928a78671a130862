"""`Session`: the config, registry, collection and store of a command; and its log on standard error."""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from diptych.cli.ui.output import warn
from diptych.errors import CollectionError
from diptych.runtime.phases import phase

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.collection.collection import Collection
    from diptych.config import Config
    from diptych.registry import Registry

LOGGERS = (
    "diptych",
    "diptych_adapters",
    "diptych_edge",
    "diptych_experimental",
    "diptych_lab",
    "diptych_serve",
    "diptych_training",
)


@dataclass(frozen=True, slots=True)
class Session:
    """Where adapters come from; everything installed unless a registry is given."""

    given: Registry | None = None

    @property
    def registry(self) -> Registry:
        """The registry, made at the first use."""
        from diptych.registry import Registry

        return self.given or Registry.default()

    def config(self, path: Path) -> Config:
        """The config file, checked against the adapters at hand.

        Raises:
            ConfigError: see diptych.config.
        """
        from diptych.config import check_adapters, load_config

        config = load_config(path)
        check_adapters(config, self.registry)
        return config

    def collection(
        self, path: Path, store: str | None, name: str | None, *, verify: bool = True, create: bool = False
    ) -> Collection:
        """The collection of a config file, or without one that of `store` and `name`.

        Only what fills a collection asks to `create` the folder of its store.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.collection.collection.
        """
        with phase("import what searches and fills collections"):
            from diptych.collection.collection import Collection

        with phase("open the collection"):
            _require_name(store, name)
            return Collection.open(store or path, name, registry=self.registry, verify=verify, create=create)

    def stored(self, path: Path, store: str | None, name: str | None) -> Collection:
        """The collection with the encoders that it has, whatever the config file wants.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.collection.collection.
        """
        from diptych.collection.collection import Collection

        with phase("open the collection"):
            _require_name(store, name)
            return Collection.stored(store or path, name, registry=self.registry)


def _require_name(store: str | None, name: str | None) -> None:
    """Raise CollectionError for a store without a collection's name, with the command that lists the names."""
    if store is not None and name is None:
        do = f"add --collection NAME; diptych collections --store {shlex.quote(store)} lists the names"
        raise CollectionError("no collection is named", where=f"--store {store}", do=do)


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


class Level(StrEnum):
    """The log levels of `--log-level`."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class StandardError(logging.Handler):
    """Writes to the current standard error; while progress bars are shown, to their console, above them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a closed pipe is ignored."""
        try:
            sys.stderr.write(self.format(record) + "\n")
        except (OSError, ValueError):
            self.handleError(record)


def show(level: Level) -> None:
    """Show diptych's own log from this level on; other libraries' logs stay as they are."""
    handler = StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.value.upper())


def show_warnings() -> None:
    """Show diptych's own warnings as commands show theirs, without the line of code that gave them."""
    plain = warnings.showwarning

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is None and category.__module__.partition(".")[0] == "diptych":
            return warn([str(message)])
        return plain(message, category, filename, lineno, file, line)

    warnings.showwarning = show_warning
    # Pillow's warning of a large picture, which is rejected by `media.max_pixels` with a message of its own.
    warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit")
