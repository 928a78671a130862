"""`local:PATH`: opens a folder of qdrant-client's local mode, after its pickles have been checked.

Local mode stores points as pickles in SQLite files, and loading a pickle can run code. So each is first read by an
unpickler that accepts only points, sparse vectors and the plain values of payloads; stand-ins replace the real classes.
A folder that holds anything else is refused. Nobody may write to the folder in between, since qdrant-client reads it
again.
"""

from __future__ import annotations

import datetime
import decimal
import io
import json
import pickle
import pickletools
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import pathname2url

from diptych.errors import CollectionNotFound, StoreError, StoreLocked
from diptych.runtime.untrusted import LOCAL_MODE, is_local_folder

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

COLLECTIONS, POINTS = "collection", "storage.sqlite"
_TABLE = "CREATE TABLE points (id TEXT PRIMARY KEY, point BLOB)"
_MODELS = "qdrant_client.http.models.models"
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_FLOATS = re.compile(rb"(?:G.{8})+", re.DOTALL)  # numbers of vectors: most of a point, passed over at once


class _Fixed(type):
    """Metaclass of classes that a pickle cannot change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"it changes the class {cls.__name__}")


class _Point(metaclass=_Fixed):
    """Replaces a model of qdrant-client while a pickle is checked; stores nothing."""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a model's state is not a dictionary")


class _Sparse(_Point):
    pass


class _UUID(_Point):
    pass


class _SafeUUID(metaclass=_Fixed):
    """Replaces an enumeration member, which the whole process shares: no attribute may be set on it."""

    def __init__(self, value: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a member of uuid.SafeUUID")


_KNOWN: Mapping[tuple[str, str], Any] = {
    (_MODELS, "PointStruct"): _Point,
    (_MODELS, "SparseVector"): _Sparse,
    ("uuid", "UUID"): _UUID,
    ("uuid", "SafeUUID"): _SafeUUID,
    ("decimal", "Decimal"): decimal.Decimal,
    **{("datetime", kind.__name__): kind for kind in (
        datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone
    )},
}  # fmt: skip  # What is not a stand-in is a class of C, on which nothing can be set


class _Looking(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _KNOWN[module, name]


def open_local(path: Path, create: bool, make: Callable[..., QdrantBase]) -> QdrantBase:
    """Check everything that local mode would unpickle, then open the folder.

    Args:
        path: of the folder.
        create: whether to create a missing folder.
        make: the client's class.

    Raises:
        CollectionNotFound, StoreError: there is no such folder, or it holds more than points.
        StoreLocked: another process has it open.
    """
    where = f"local:{path}"
    if not is_local_folder(path):
        if not create:
            do = "check the path; qdrant-client made it by QdrantClient(path=...)"
            raise CollectionNotFound("there is no folder of qdrant-client's local mode", where=where, do=do)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            do = "choose another path" + (
                "; an embedded store is opened by edge:" if (path / "collections").is_dir() else ""
            )
            raise StoreError("the folder holds something else; nothing in it was changed", where=where, do=do)
    for file in _files(path, where):
        _look_through(file)
    try:
        return make(path=str(path))
    except Exception as error:  # qdrant-client raises any class of error for damaged points
        if isinstance(error, RuntimeError) and "already accessed" in str(error):
            do = "end the other process; for several at a time use edge: or a server"
            raise StoreLocked("another process has the folder open", where=where, do=do) from error
        got = f"{type(error).__name__}: {error}"[:200]
        raise StoreError("qdrant-client cannot open the folder", where=where, got=got) from error


def _files(path: Path, where: str) -> Iterator[Path]:
    """The files of points that qdrant-client would read."""
    if not (path / LOCAL_MODE).exists():
        return
    try:
        names = list(json.loads((path / LOCAL_MODE).read_bytes())["collections"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise StoreError(
            "the folder's list of collections is damaged", where=f"{where}/{LOCAL_MODE}", got=got
        ) from error
    home = (path / COLLECTIONS).resolve()
    for name in names:
        folder = (home / name).resolve()
        if home not in folder.parents:
            raise StoreError("a collection lies outside of the folder", where=where, got=repr(name)[:80])
        if (folder / POINTS).exists():
            yield folder / POINTS


def _look_through(file: Path) -> None:
    """Raise StoreError if a file contains anything but points."""
    try:
        with closing(sqlite3.connect(f"file:{pathname2url(str(file))}?mode=ro", uri=True)) as base:
            found = base.execute("SELECT type, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
            if found != [("table", _TABLE)]:  # a view could return other points at each reading
                raise _refused(file, f"other tables than points: {found!r}"[:200])
            for key, blob in base.execute("SELECT id, point FROM points"):
                _require_its_own_size(blob)
                point = _Looking(io.BytesIO(blob)).load()
                if type(point) is not _Point:
                    raise _refused(file, f"row {key!r} is a {type(point).__name__}")
    except StoreError:
        raise
    except Exception as error:  # a pickle that is damaged raises errors of any class
        raise _refused(file, f"{type(error).__name__}: {error}"[:200]) from error


def _require_its_own_size(blob: bytes) -> None:
    """Raise an error for a pickle that claims more memory than it has bytes; Python's unpickler would allocate it."""
    file = io.BytesIO(blob)
    while True:
        if run := _FLOATS.match(blob, file.tell()):
            file.seek(run.end())
        if not (code := file.read(1)):
            raise pickle.UnpicklingError("it has no end")
        opcode = _OPCODES[code[0]]
        found = opcode.arg.reader(file) if opcode.arg is not None else None  # fails where bytes are missing
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(found or 0) > len(blob):
            raise pickle.UnpicklingError(f"it asks for a memo of {found:,} entries")
        if opcode.name == "STOP":
            return


def _refused(file: Path, got: str) -> StoreError:
    return StoreError(
        "the folder holds more than the points of qdrant-client's local mode, or is damaged; it was not opened",
        where=file,
        got=got,
        expected="pickles of points with plain payloads",
        do="open it yourself with QdrantClient(path=...) if you trust whoever made it, and copy it from there",
    )
