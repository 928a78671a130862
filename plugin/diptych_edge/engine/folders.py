"""The folders and files of an embedded store, the record of a collection, what may change, and the lock of the path.

Nothing is removed but folders named and filled as `Catalog` does it, and of these only what was being made or deleted:
`unfinished.json` in the place of `collection.json` says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import portalocker
from pydantic import TypeAdapter, ValidationError
from qdrant_client import models

from diptych.errors import StoreError, StoreLocked
from diptych.runtime.untrusted import LOCAL_MODE, SERVER, is_local_folder, plain_file, regular_file
from diptych.runtime.validation_messages import actual_value, error_path, expectation

FORMAT = 1
RECORD = "collection.json"
CHECK = "checksum"
UNFINISHED = "unfinished.json"  # the record of a collection that is being made or deleted
SHARD = "shard-"  # prefix of Edge's data folders

LOCK = ".lock"
STARTING, ENDING = "starting", "ending"  # states of a holder that does not answer other processes yet, or any more
PATIENCE = 2.0  # seconds: the lock of a killed process is freed only when the system has taken its memory apart
_LOCK_PAUSE = 0.02

_NAMED = re.compile(r"[A-Za-z0-9_]{1,40}-[0-9a-f]{12}")
_TRIES, _PAUSE = 20, 0.05  # seconds
COLLECTIONS = "collections"
DAMAGED = ".damaged-"  # prefix of data folders that a repair could not read completely
_MARKERS = (f"{Path(UNFINISHED).stem}.tmp", f"{Path(RECORD).stem}.tmp", UNFINISHED)  # in the order of their removal


def prepare(root: Path, *, create: bool) -> Path:
    """The folder of all collections under `root`, created if needed; foreign folders are not touched.

    Raises:
        StoreError: `root` holds what no EdgeClient wrote, or is no store while `create` is false.
    """
    home = root / COLLECTIONS
    if not create and not home.is_dir() and not is_local_folder(root):
        raise StoreError("there is no embedded store here", where=f"edge:{root}", do="check the path of the store")
    if foreign := [str(path.relative_to(root)) for path in _foreign_files(root, home)]:
        raise StoreError(
            "the folder holds something other than an embedded store; nothing in it was changed",
            where=f"edge:{root}",
            got=", ".join(foreign[:5]),
            expected="a new folder, or one that EdgeClient made",
            do=f"open it as qdrant-client's local mode: store: local:{root}"
            if is_local_folder(root)
            else "choose another path; what a Qdrant server keeps is reached through the server: store: http(s)://...",
        )
    home.mkdir(parents=True, exist_ok=True)
    return home


def scan(home: Path) -> tuple[dict[str, Path], set[Path]]:
    """The collections' folders by name, and folders with data but no record; removes unfinished ones."""
    folders: dict[str, Path] = {}
    lost: set[Path] = set()
    for folder in sorted(path for path in home.iterdir() if _is_ours(path)):
        if (folder / RECORD).exists():
            folders[Record.read(folder).name] = folder
        elif (folder / UNFINISHED).exists() or not any(path.is_file() for path in folder.glob(f"{SHARD}*/**/*")):
            sweep(folder)
        else:
            lost.add(folder)
    return folders, lost


def sweep(folder: Path) -> None:
    """Delete a collection's folder. The file that marks it as rubbish goes last, in case of a kill."""
    for data in (*folder.glob(f"{SHARD}*"), *folder.glob(f"{DAMAGED}*")):
        remove(data)
    if any(folder.glob(f"{SHARD}*")):
        return
    with suppress(OSError):  # whatever else is in it stays, and so does the folder
        for name in _MARKERS:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def remove(data: Path) -> None:
    """Delete a data folder, repeating it if that fails.

    The optimizer of a killed process dies a moment after that process has left its lock, and may still write.
    """
    for _ in range(_TRIES):
        shutil.rmtree(data, ignore_errors=True)
        if not data.exists():
            return
        time.sleep(_PAUSE)


def folder_name(name: str) -> str:
    """A safe folder name for a collection of any name; the record inside has the real name."""
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name[:40])
    return f"{plain}-{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def without_record(folder: Path) -> StoreError:
    """The error for a collection whose record is lost."""
    return StoreError(
        f"a collection has lost its {RECORD}; its data were left alone",
        where=folder,
        do=f"restore {RECORD} from a copy; or remove the folder to give the collection up",
    )


@contextmanager
def opening(root: Path) -> Iterator[None]:
    """Within the block, errors of the operating system become StoreErrors."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            "the embedded store cannot be opened",
            where=f"edge:{root}",
            got=f"{type(error).__name__}: {error}",
            expected="a folder that can be written, or a place for one",
            do="choose another path, or change its permissions",
        ) from error


def _foreign_files(root: Path, home: Path) -> Iterator[Path]:
    """Files that show that the path is not a store."""
    if (root / SERVER).exists():
        yield root / SERVER
    if is_local_folder(root):
        yield root / LOCAL_MODE
    if home.exists():
        yield from (path for path in sorted(home.iterdir()) if path.is_dir() and not _is_ours(path))


def _is_ours(folder: Path) -> bool:
    """Whether name and contents are those of a store; hidden files, such as a file manager's, do not count."""
    if not (folder.is_dir() and _NAMED.fullmatch(folder.name)):
        return False
    names = {path.name for path in folder.iterdir() if not path.name.startswith((".", SHARD))}
    return RECORD in names or names <= set(_MARKERS)


class PathLock:
    """Holds `PATH/.lock` from now to `release()`; the system frees it when the process ends in any way.

    Args:
        patience: seconds to try for. A holder that was killed keeps the lock until the system has cleared it away.

    Raises:
        StoreLocked: another process holds it; the text says which.
    """

    def __init__(self, root: Path, *, patience: float = PATIENCE) -> None:
        self._path = root / LOCK
        self._file: IO[str] = open(self._path, "a+", encoding="ascii", opener=plain_file)  # noqa: SIM115 - held open
        if hasattr(os, "getuid") and (facts := os.fstat(self._file.fileno())).st_uid == os.getuid():
            folder = root.stat()  # whoever may read the lock can lock out whom the folder belongs to
            shared = folder.st_mode & stat.S_IWGRP and folder.st_gid == facts.st_gid
            os.fchmod(self._file.fileno(), 0o660 if shared else 0o600)
        try:
            if not tried_until(time.monotonic() + patience, self._take):
                # The process that holds the lock, and its state.
                self._file.seek(0)
                pid, _, state = self._file.read(100).strip().partition(" ")
                raise _locked(root, int(pid) if pid.isascii() and pid.isdigit() else None, state)
        except BaseException:
            self._file.close()
            raise
        self.say(STARTING)

    def say(self, state: str = "") -> None:
        """Tell waiting processes what this one does: opening and flushing may take long."""
        if not self._file.closed:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()} {state}".strip())
            self._file.flush()

    @property
    def in_place(self) -> bool:
        """Whether the locked file is still the one that others would lock: the folder may have been replaced."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except (OSError, ValueError):
            return False

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        if not self._file.closed:
            portalocker.unlock(self._file)
            self._file.close()

    def leave_to_parent(self) -> None:
        """In a forked process: close the copy of the file, which leaves the lock with the parent alone."""
        self._file.close()

    def _take(self) -> bool:
        try:
            portalocker.lock(self._file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException:
            return False
        return True


def tried_until(end: float, attempt: Callable[[], bool]) -> bool:
    """Repeat `attempt` until it succeeds, or until the monotonic clock reaches `end`; returns whether it did."""
    while not attempt():
        if time.monotonic() >= end:
            return False
        time.sleep(_LOCK_PAUSE)
    return True


def _locked(root: Path, holder: int | None, state: str) -> StoreLocked:
    return StoreLocked(
        "the embedded store is open elsewhere",
        where=f"edge:{root}",
        got=f"held by process {holder or 'unknown'}",
        expected="one process with the engine",
        do="wait until it ends, or end it; what opens edge:PATH, as SharedEdgeClient does, shares the store with it",
        holder=holder,
        state=state,
    )


@dataclass(frozen=True, slots=True)
class Record:
    """A collection as described by its folder's `collection.json`.

    `shard`: the folder that holds the data now, so that changing this one name exchanges all of it at once.
    `pending`: a change of named vectors that was begun; it is finished at the next opening.
    `stale`: settings were changed that the next index is to be built with.
    """

    name: str
    shard: str
    config: models.CreateCollection
    pending: dict[str, Any] | None = None
    stale: bool = False

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The record of the collection in `folder`.

        Raises:
            StoreError: it is damaged.
        """
        path = folder / RECORD
        record: Record = validated(_RECORD, read_json(path), path)
        if Path(record.shard).name != record.shard or not record.shard.startswith(SHARD):
            raise damaged(path, f"shard: {record.shard!r} is no folder of data")
        if record.pending is not None and not ("drop" in record.pending or {"add", "config"} <= record.pending.keys()):
            raise damaged(path, f"pending: {record.pending} is no change of vectors")
        return record

    def write(self, folder: Path, name: str = RECORD) -> None:
        """Replace the record in `folder`: after a kill at any time, either the old or the new one is there."""
        config = self.config.model_dump(mode="json", exclude_none=True)
        state = {"shard": self.shard, "pending": self.pending, "stale": self.stale}
        write_json(folder / name, {"format": FORMAT, "name": self.name, "config": config, **state})

    def with_config(self, **changes: Any) -> Record:
        """This record with some of the config's fields replaced."""
        return replace(self, config=self.config.model_copy(update=changes))


def read_json(path: Path) -> dict[str, Any]:
    """Read a sidecar.

    Raises:
        StoreError: it is damaged, or written by a later diptych.
    """
    try:
        with open(path, encoding="utf-8", opener=regular_file) as file:
            raw = json.load(file)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(raw, dict):
        raise damaged(path, f"a {type(raw).__name__} where an object belongs")
    if raw.get("format") != FORMAT:
        raise StoreError(
            "the embedded store has another format", where=path, got=raw.get("format"), expected=FORMAT,
            do="open it with the diptych that wrote it",
        )  # fmt: skip
    if (checksum := raw.pop(CHECK, None)) is not None and checksum != _checksum(raw):  # earlier releases wrote none
        raise damaged(path, "its checksum does not fit its content")
    return raw


def validated(kind: TypeAdapter[Any], raw: object, path: Path) -> Any:
    """The object described by `raw`, which was read from `path`.

    Raises:
        StoreError: it describes none.
    """
    try:
        return kind.validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        expected = expectation(first, mapping="an object")
        raise damaged(path, f"{error_path(first)}: {actual_value(first)}", expected) from error


def damaged(path: Path, got: str, expected: str = "") -> StoreError:
    """The error for a file that is not as it was written."""
    do = "restore it from a copy; the data of the store were left alone"
    return StoreError("a file of the embedded store is damaged", where=path, got=got, expected=expected, do=do)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write to a new file with a checksum, make it durable, and rename it into place."""
    as_read = json.loads(json.dumps(content))  # keys are text then
    replace_file(path, json.dumps({**content, CHECK: _checksum(as_read)}, ensure_ascii=False))


def _checksum(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def replace_file(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a file's text: after a kill at any time, either the old or the new one is there.

    Args:
        durable: also whatever happens to the machine.
    """
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_RECORD = TypeAdapter(Record)
