"""All collections under one path, and their aliases."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from threading import RLock

from qdrant_client import models

from diptych.errors import CollectionError, CollectionNotFound, StoreError
from diptych.stores.edge.collection import EdgeCollection
from diptych.stores.edge.lock import PathLock
from diptych.stores.edge.sidecar import FORMAT, RECORD, Record, read_json, sync_folder, write_json

ALIASES = "aliases.json"
_FORBIDDEN = frozenset('<>:"/\\|?*\0\x1f')  # what a server refuses in a name


class Catalog:
    """Finds, makes and removes the collections of a path; opens each at its first use.

    Raises:
        StoreLocked: another client has the path open.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._home = root, root / "collections"
        self._home.mkdir(parents=True, exist_ok=True)
        self._lock, self._mutex, self._closed = PathLock(root), RLock(), False
        self._opened: dict[str, EdgeCollection] = {}
        try:
            self._folders, self.aliases = _folders(self._home), _aliases(root / ALIASES)
        except BaseException:
            self._lock.release()
            raise

    def names(self) -> list[str]:
        """All collections, sorted."""
        self._check_open()
        return sorted(self._folders)

    def find(self, name: str) -> EdgeCollection:
        """The collection of this name or alias.

        Raises:
            CollectionNotFound: there is none; the text lists those that exist.
        """
        found = self._opened.get(name)
        if found is not None:
            return found
        self._check_open()
        with self._mutex:
            real = name if name in self._folders else self.aliases.get(name, name)
            if real not in self._folders:
                raise self._missing(name)
            if real not in self._opened:
                self._opened[real] = EdgeCollection.load(self._folders[real])
            return self._opened[real]

    def create(self, name: str, config: models.CreateCollection) -> None:
        """Make an empty collection.

        Raises:
            CollectionError: the name is taken, or cannot be one.
        """
        self._check_open()
        check_name(name, "collection")
        with self._mutex:
            if name in self._folders or name in self.aliases:
                kind = "a collection" if name in self._folders else "an alias"
                raise CollectionError(f"there is {kind} {name!r} already", where=f"edge:{self.root}")
            folder = self._home / _folder_name(name)
            folder.mkdir()
            sync_folder(self._home)
            try:
                self._opened[name] = EdgeCollection.create(folder, name, config)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._folders[name] = folder

    def delete(self, name: str) -> bool:
        """Remove a collection with its points and aliases; False when there is none."""
        self._check_open()
        with self._mutex:
            folder = self._folders.pop(name, None)
            if folder is None:
                return False
            opened = self._opened.pop(name, None)
            (folder / RECORD).unlink()  # from here on the rest is rubbish, whatever happens
            self.set_aliases({alias: target for alias, target in self.aliases.items() if target != name})
        if opened is not None:
            opened.close()
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def set_aliases(self, aliases: dict[str, str]) -> None:
        """Replace all aliases at once."""
        with self._mutex:
            if aliases != self.aliases:
                write_json(self.root / ALIASES, {"format": FORMAT, "aliases": aliases})
                self.aliases = aliases

    def opened(self) -> Sequence[EdgeCollection]:
        """The collections that are open now."""
        return list(self._opened.values())

    def close(self) -> None:
        """Flush and close everything and let others in; a second call does nothing."""
        with self._mutex:
            self._closed = True
            while self._opened:
                self._opened.popitem()[1].close()
            self._lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the embedded store is closed", where=f"edge:{self.root}", do="open a new EdgeClient")

    def _missing(self, name: str) -> CollectionNotFound:
        known = ", ".join([*self.names(), *self.aliases]) or "the store is empty"
        return CollectionNotFound(f"there is no collection {name!r}", where=f"edge:{self.root}", expected=known)


def check_name(name: str, kind: str) -> None:
    """Refuse what a server refuses as the name of a collection or vector."""
    bad = sorted(_FORBIDDEN & set(name))
    limit = 255 if kind == "collection" else 200
    if bad or name in ("", ".", "..") or len(name.encode()) > limit:
        raise CollectionError(
            f"this cannot be the name of a {kind}",
            got=repr(name),
            expected=f"1 to {limit} bytes, none of {' '.join(sorted(_FORBIDDEN - set(chr(0) + chr(31))))}",
        )


def _folder_name(name: str) -> str:
    """A safe folder for any name; the record inside knows the name."""
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name[:40])
    return f"{plain}-{sha256(name.encode()).hexdigest()[:12]}"


def _folders(home: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in sorted(home.iterdir()):
        if (folder / RECORD).exists():
            found[Record.read(folder).name] = folder
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _aliases(path: Path) -> dict[str, str]:
    return dict(read_json(path)["aliases"]) if path.exists() else {}
