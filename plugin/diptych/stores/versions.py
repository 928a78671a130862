"""The version of a Qdrant server, what servers below a version lack, and whether a client is a server's at all.

A server does its own upkeep. For an embedded store, the disk space is checked before many writes, and the collection is
optimised afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qdrant_client import QdrantClient, models

from diptych.errors import DiptychError, StoreUnsupported

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.protocols import Kind

ADDS_VECTORS, FEEDBACK, WHOLE_WORDS, TEXT_INDEX = (1, 18), (1, 17), (1, 19, 1), (1, 20)
_KNOWN: WeakKeyDictionary[QdrantBase, tuple[int, ...]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of servers that diptych uses, and the first version that has it.

    Args:
        needs: what it is for.
        since: the first version that has it.
        without: what happens below.
        kind: of the slots that need it; None where every collection may.
        in_filters: whether only filters need it. Warnings leave it out, since filters are unknown before a search.
        of_tenants: whether only collections with tenants need it.
    """

    needs: str
    since: tuple[int, ...]
    without: str
    kind: Kind | None = None
    in_filters: bool = False
    of_tenants: bool = False


FEATURES = (
    Feature(
        "vectors that are added to a collection and dropped from it",
        ADDS_VECTORS,
        "a swap to another encoder is refused",
    ),
    Feature(
        "writes that outlive a crash just after a vector was dropped",
        (1, 19),
        "diptych waits before it drops one; still, update the server before a swap",
    ),
    Feature(
        "statistics of one tenant's documents alone, for the IDF of a sparse slot,",
        (1, 19),
        "the scores of a tenant's hits depend on other tenants' documents, too",
        "sparse",
        of_tenants=True,
    ),
    Feature("searches by examples, `like` and `unlike`,", FEEDBACK, "they are refused", "dense"),
    Feature(
        "text matches (`MatchText`) in a field without a text index",
        WHOLE_WORDS,
        "they look for one string, case-sensitive; with `populate: {indexes: {FIELD: text}}` they match whole words",
        in_filters=True,
    ),
    Feature("searches of a text index", TEXT_INDEX, "its slots cannot be searched", "text_index"),
)


def server_version(client: QdrantBase) -> tuple[int, ...] | None:
    """The server's version, `(1, 18, 3)`, as it was at the first call; None where it is unknown."""
    if (known := _KNOWN.get(client)) is not None:
        return known
    try:
        found = re.match(r"\d+(\.\d+)*", client.info().version)
    except Exception:  # an embedded store has no such call, a proxy may not pass it on
        return None
    if found is None:
        return None
    return _KNOWN.setdefault(client, tuple(int(number) for number in found[0].split(".")))


def is_server_client(client: QdrantBase) -> bool:
    """Whether this is the client of a server or cluster.

    Stores are of three kinds: servers; embedded stores (`edge:`, Qdrant Edge in a process of this machine); and local
    mode (`memory:`, `local:`), which is qdrant-client's own. Only to a server does diptych send several writes at once
    or, by default, at a gentle pace; and only a server replays its log in a way that makes vectors wait to be dropped.
    """
    return isinstance(client, QdrantClient) and not is_local(client)


def version_warnings(client: QdrantBase, kinds: Iterable[Kind], *, tenants: bool) -> list[str]:
    """What this server lacks for slots of these kinds, for tenants where there are some, and for swaps.

    Nothing for other stores.
    """
    if not is_server_client(client):
        return []
    version, wanted = server_version(client), {None, *kinds}
    if version is None or version >= max(feature.since for feature in FEATURES):
        return []
    name = dotted(version)
    needed = [own for own in FEATURES if own.kind in wanted and not own.in_filters and (tenants or not own.of_tenants)]
    return [
        f"this server is Qdrant {name}, and {feature.needs} need {dotted(feature.since)}: {feature.without}"
        for feature in needed
        if version < feature.since
    ]


def require_version(client: QdrantBase, since: tuple[int, ...], lacks: str, *, where: str, do: str) -> None:
    """Raise StoreUnsupported if the store is a server older than `since`; `lacks` says what it cannot do."""
    version = server_version(client) if is_server_client(client) else None
    if version is not None and version < since:
        got, expected = f"Qdrant {dotted(version)}", f"{dotted(since)} or newer"
        raise StoreUnsupported(f"this server {lacks}", where=where, got=got, expected=expected, do=do)


def dotted(version: Iterable[int]) -> str:
    """The version as text: `1.18.3`."""
    return ".".join(map(str, version))


def is_local(client: QdrantBase) -> bool:
    """Whether the client is in local mode, which an embedded store (`edge:`) is not.

    Local mode has no payload indexes, does not round vectors, and takes one call at a time.
    """
    options: Any = getattr(client, "init_options", None) or {}
    return options.get("location") == ":memory:" or options.get("path") is not None


def optimized(client: QdrantBase, name: str) -> str:
    """Build the indexes that are due; returns a warning if that failed, else "". Returns at once for a server."""
    optimize = getattr(client, "optimize", None)
    if optimize is None or client.get_collection(name).status == models.CollectionStatus.GREEN:
        return ""
    try:
        optimize(name)
    except DiptychError as error:
        return f"all is written, but the collection could not be optimised: {error.what}"
    return ""


def looks_at_disk(client: QdrantBase) -> bool:
    """Whether this is an embedded store, whose disk space is checked before a run."""
    return hasattr(client, "require_room")


def require_room(client: QdrantBase, needed: int, purpose: str, *, moving: str = "") -> None:
    """Check that the disk of an embedded store has room for a run.

    Args:
        needed: bytes of what it writes.
        moving: a collection that is rewritten meanwhile, so that it takes its space twice.

    Raises:
        StoreFull: it has not.
    """
    if looks_at_disk(client):
        embedded: Any = client
        embedded.require_room(needed, purpose, moving=moving)


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes on the disk: of the whole collection, and by named vector, its graph and quantized copies included."""

    total: int
    vectors: Mapping[str, int]


def disk_use(client: QdrantBase, name: str) -> DiskUse | None:
    """What the files of a collection take; None where they are not on this machine, as a server's are not."""
    measure = getattr(client, "disk_use", None)
    return DiskUse(*measure(name)) if measure is not None else None
