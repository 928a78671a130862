"""What Edge does not store: settings and metadata of collections, and aliases, as atomically written JSON."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from qdrant_client import models

from diptych.errors import StoreError
from diptych.runtime.plain_files import regular_file
from diptych.runtime.validation_messages import actual_value, error_path, expectation

FORMAT = 1
RECORD = "collection.json"
CHECK = "checksum"
UNFINISHED = "unfinished.json"  # the record of a collection that is being made or deleted
SHARD = "shard-"  # prefix of Edge's data folders


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
