"""Swaps on servers that cannot add a vector to a collection, Qdrant before 1.18: a second collection and an alias.

The second collection is a copy of the served one with empty new vectors beside the old. The alias of the served
collection is moved to it: same encoders, same vectors, so queries notice nothing. Then the swap continues there as on
any server: populates write both vectors, and back-fill, gate and cut-over see one collection with all they need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdrant_client import models

from diptych.copying import copy_collection
from diptych.copying.run import Base, copy_late_writes
from diptych.copying.side import CopySide
from diptych.copying.target_collection import Extra, Params, record_of, shapes
from diptych.errors import StoreUnsupported
from diptych.metadata.store import APPLY, COPY, await_metadata
from diptych.runtime.phases import Progress

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

BATCH = 256


class CannotAddVectors(StoreUnsupported):
    """The server is too old to add a vector to a collection."""


@dataclass(frozen=True, slots=True)
class AliasMove:
    """The result: the alias, the collections before and after the move, and the number of late writes."""

    alias: str
    before: str
    after: str
    late: int

    def __str__(self) -> str:
        return (
            f"this server cannot add a vector to a collection: {self.alias!r} serves {self.after!r} now, a copy of "
            f"{self.before!r}, which is kept; delete it with the Qdrant client once you no longer need it"
        )


def provide(
    client: QdrantBase, alias: str, extra: Extra, *, rate: float | None = None, progress: Progress
) -> AliasMove:
    """Move the alias to a copy of its collection with the vectors of `extra`; entries that are None are left out of it.

    After a kill, call it again to continue. What is written to the old collection until the alias moves is copied;
    what is written to the new one after that stays.

    Raises:
        CannotAddVectors: the name is a collection, not an alias.
        CopyError: the copy cannot be made.
    """
    before = _served(client, alias)
    after = _name(client, alias, before, extra)
    with Base() as base:
        copy_collection(
            client, before, client, after, batch=BATCH, rate=rate, progress=progress, extra=extra, base=base
        )
        source, target = CopySide(client, before), CopySide(client, after)
        target.settle({APPLY: source.metadata().get(APPLY)})  # the apply goes on in the copy, under the same lease
        _move(client, alias, after)
        # Nodes of a cluster take the moved alias at different times; late writes are compared only when all have it.
        await_metadata(client, alias, {COPY: target.metadata()[COPY]})
        late = copy_late_writes(source, target, base, batch=BATCH)
    source.note({APPLY: None})
    return AliasMove(alias, before, after, late)


def fits(client: QdrantBase, name: str, vector: str, params: Params) -> bool:
    """Whether the collection already has this very vector."""
    have = shapes(client.get_collection(name).config.params)
    return have.get(vector) == shapes(models.CollectionParams(), {vector: params})[vector]


def _served(client: QdrantBase, alias: str) -> str:
    """The collection behind the alias."""
    for known in client.get_aliases().aliases:
        if known.alias_name == alias:
            return known.collection_name
    raise CannotAddVectors(
        "this server cannot add a vector to a collection in use, and the collection is not served by an alias",
        where=f"collection {alias!r}",
        got="a Qdrant server before 1.18",
        expected="a newer server; or an alias, which can be moved to a second collection that has the vector",
        do=f"update the server; or once: diptych copy CONFIG CONFIG --collection {alias} --as {alias}.1, make an alias "
        f"for {alias}.1 with update_collection_aliases, and name that alias as `collection` in the config, and in all "
        f"programs that use {alias}",
    )


def _name(client: QdrantBase, alias: str, before: str, extra: Extra) -> str:
    """The second collection's name: that of an earlier run's copy, else the next free number."""
    names = [collection.name for collection in client.get_collections().collections]
    expected = shapes(client.get_collection(before).config.params, extra)
    numbers = {name: int(n[1]) for name in names if (n := re.fullmatch(rf"{re.escape(alias)}\.(\d+)", name))}
    for name in sorted(numbers, key=numbers.__getitem__, reverse=True):
        if name != before and _is_copy(client, name, before, expected):
            return name
    return f"{alias}.{max(numbers.values(), default=1) + 1}"


def _is_copy(client: QdrantBase, name: str, source: str, expected: Mapping[str, str]) -> bool:
    config = client.get_collection(name).config
    record = record_of(config.metadata or {}, name)
    if record is None or (record.store, record.collection) != (CopySide(client, source).place, source):
        return False
    return shapes(config.params) == expected


def _move(client: QdrantBase, alias: str, to: str) -> None:
    """Point the alias to another collection, in one call."""
    gone = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
    made = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=to, alias_name=alias))
    client.update_collection_aliases([gone, made])
