"""Reads and writes the metadata of a collection.

Qdrant merges metadata key by key, so each writer has a key of its own and none overwrites another's news:

| key | written by | holds |
|---|---|---|
| `diptych` | creation, a swap's begin, cut-over, rollback, finish | slots, what is being built, history |
| `diptych_search` | populate, and a cut-over | the search pipeline, for those who open the collection by name |
| `diptych_behind_VECTOR` | populate | that it could not write this vector of an earlier generation |
| `diptych_unread_VECTOR` | populate, and a back-fill | how much of the documents encoded for this vector was not read |
| `diptych_retired` | whoever changes the state | when vectors were retired that are still to be dropped |
| `diptych_apply` | the process that applies a swap | its lease and its checkpoints |
| `diptych_claim_TOKEN` | a process that takes the lease | that it is about to take it |
| `diptych_gate` | the process that applies a swap | why the gate refused the swap, for those who look |
| `diptych_copy` | the process that makes a copy | whose copy the collection is, and how far it is |
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from pydantic import BeforeValidator, PlainSerializer, ValidationError

from diptych.errors import CollectionError, CollectionNotFound, StoreUnavailable
from diptych.metadata.models import FORMAT, CollectionMetadata
from diptych.reports import UnreadTokens
from diptych.runtime.validation_messages import expectation, nearest

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

KEY = "diptych"
SEARCH, BEHIND, APPLY, COPY = f"{KEY}_search", f"{KEY}_behind_", f"{KEY}_apply", f"{KEY}_copy"
UNREAD = f"{KEY}_unread_"  # and a vector
CLAIM, GATE = f"{KEY}_claim_", f"{KEY}_gate"  # the first and the token of the lease
RETIRED = f"{KEY}_retired"  # by vector; see stores.retired_vectors
# And a slot's name. Releases up to 0.4.0 wrote them; the next change of state removes them.
OBSOLETE = (f"{KEY}_drift_", f"{KEY}_sample_")
PATIENCE = 10.0  # seconds in which every node must show a change that one node has acknowledged
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.2  # seconds between two looks
T = TypeVar("T")


# A point's id within metadata. Ids have 64 bits, but a number in a value that is sent over gRPC has 63 and a sign.
StoredId: TypeAlias = Annotated[
    int | str,
    BeforeValidator(lambda raw: int(raw) if isinstance(raw, str) and raw.isdecimal() else raw),
    PlainSerializer(
        lambda given: str(given) if isinstance(given, int) and given >= 2**63 else given,
        return_type=int | str,
        when_used="json",
    ),
]


def read_metadata(client: QdrantBase, name: str, raw: Mapping[str, Any] | None = None) -> CollectionMetadata | None:
    """The metadata of a collection, None if diptych does not know it; `raw` is what it stores, if that is known.

    Raises:
        CollectionNotFound: there is no such collection.
        CollectionError: the metadata is of another format, or damaged.
    """
    raw = read_existing(client, name, partial(raw_metadata, client)) if raw is None else raw
    if KEY not in raw and (raw.get(COPY) or {}).get("stage", "done") != "done":
        copy, points = raw[COPY], raw[COPY].get("copied", 0)  # whose metadata is valid only when it is complete
        raise CollectionError(
            "the collection is an unfinished copy",
            where=f"collection {name!r}",
            got=f"{points:,} points so far of {copy.get('store')}, collection {copy.get('collection')!r}",
            do="finish it: run the same diptych copy again, it continues where it stopped",
        )
    return metadata_of(raw, name) if KEY in raw else None


def read_existing(client: QdrantBase, name: str, read: Callable[[str], T]) -> T:
    """What `read` returns for a collection; raises CollectionNotFound where it fails because there is none."""
    try:
        return read(name)
    except Exception as error:
        from qdrant_client.http.exceptions import ResponseHandlingException

        # A store that does not answer is not asked again: that would take as long once more.
        if isinstance(error, ResponseHandlingException):
            raise
        if client.collection_exists(name):
            return read(name)  # another process may just have made it
        existing = sorted(c.name for c in client.get_collections().collections)
        raise CollectionNotFound(
            f"there is no collection {name!r}",
            got="" if existing else "the store has no collections",
            expected=", ".join(existing),
            do=nearest(name, existing) or "name one that exists, or fill this one first: diptych populate SOURCE",
        ) from error


def known_metadata(client: QdrantBase, name: str, raw: Mapping[str, Any] | None = None) -> CollectionMetadata:
    """The metadata of a collection that diptych knows; see `read_metadata`.

    Raises:
        CollectionNotFound, CollectionError: there is no such collection, or diptych does not know it.
    """
    metadata = read_metadata(client, name, raw)
    if metadata is None:
        raise CollectionError(
            "diptych does not know this collection",
            where=f"collection {name!r}",
            do="take it over: diptych adopt; or choose another name",
        )
    return metadata


def raw_metadata(client: QdrantBase, name: str) -> Mapping[str, Any]:
    """The whole stored metadata by key; for embedded stores without any further information."""
    get_metadata = getattr(client, "get_metadata", None)
    metadata: Mapping[str, Any] = (
        get_metadata(name) if get_metadata else client.get_collection(name).config.metadata or {}
    )
    return metadata


def update_metadata(client: QdrantBase, name: str, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Merge keys into the metadata, and return the metadata as a node shows it with this change; None removes a key.

    A node of a cluster may show metadata from before a change that another node has acknowledged. So this reads until
    every node that the client knows, and that answers, shows the change: whoever reads there afterwards sees it.

    Raises:
        StoreUnavailable: it is not to be seen in time: a node is behind, or another process changed the same keys.
    """
    # Every QdrantBase takes it; the base class only says **kwargs.
    client.update_collection(name, metadata=dict(changes))
    due, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
    while True:
        # The metadata as each node shows it; of a store that is no cluster as it is.
        of_nodes = getattr(client, "metadata_views", None)
        views: list[Mapping[str, Any]] = of_nodes(name) if of_nodes else [raw_metadata(client, name)]
        differing = [key for view in views for key in changes if not same_values(view.get(key), changes[key])]
        if not differing:
            return views[0]
        if time.monotonic() >= due:
            raise StoreUnavailable(
                "the store acknowledged a change of the metadata and does not show it",
                where=f"collection {name!r}",
                got=f"other values of {', '.join(sorted(set(differing)))} for {PATIENCE:.0f} s",
                expected=f"the change at each of the {len(views)} nodes that answer" if views[1:] else "the change",
                do="check whether all nodes take part in the cluster, and whether another process works on this "
                "collection; then run the same command again",
            )
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def metadata_payload(metadata: CollectionMetadata) -> dict[str, Any]:
    """The metadata in the form for `create_collection(metadata=...)` and `update_collection`."""
    # What no tenant asked for is left out, so that releases before tenants read it. They refuse a collection that has
    # tenants, of which they know nothing, rather than answer over all of them. The same holds for foreign media.
    content = metadata.model_dump(mode="json", exclude={"search", "behind"})
    if metadata.tenancy is None:
        del content["tenancy"]
    if not metadata.layout.media:
        del content["layout"]["media"]
    return {KEY: content, **search_payload(metadata.search)}


def search_payload(search: Mapping[str, Any] | None) -> dict[str, Any]:
    """The pipeline alone, under its own key."""
    return {SEARCH: dict(search) if search is not None else None}


def behind_key(vector: str) -> str:
    """The key that marks a vector as behind; each vector has its own, so that parallel populates keep all marks."""
    return f"{BEHIND}{vector}"


def stored_unread(client: QdrantBase, name: str) -> dict[str, UnreadTokens]:
    """How much was left unread of all documents encoded so far, by vector."""
    stored = [(key, counts) for key, counts in raw_metadata(client, name).items() if key.startswith(UNREAD)]
    return {key.removeprefix(UNREAD): UnreadTokens(**counts) for key, counts in stored if counts}


def add_unread(client: QdrantBase, name: str, unread: Mapping[str, UnreadTokens]) -> None:
    """Add what was left unread, by vector, to what is stored. Of two processes that do so at once, one may be lost."""
    before = stored_unread(client, name) if unread else {}
    sums = {vector: before[vector] + more if vector in before else more for vector, more in unread.items()}
    if sums:
        update_metadata(client, name, {f"{UNREAD}{vector}": asdict(counts) for vector, counts in sums.items()})


def same_values(shown: Any, written: Any) -> bool:
    """Whether a value of the metadata is the one that was written."""
    if isinstance(written, Mapping):
        keys = isinstance(shown, Mapping) and shown.keys() == written.keys()
        return keys and all(same_values(shown[key], value) for key, value in written.items())
    if isinstance(written, list | tuple):
        fits = isinstance(shown, list | tuple) and len(shown) == len(written)
        return fits and all(map(same_values, shown, written))
    # A server that reads JSON may change the last digit of a number.
    if isinstance(written, float) and isinstance(shown, int | float):
        return math.isclose(shown, written, rel_tol=1e-12)
    return bool(shown == written)


def metadata_of(raw: Mapping[str, Any], name: str) -> CollectionMetadata:
    """The metadata in the whole stored metadata by key.

    Raises:
        CollectionError: it is of another format, or damaged.
    """
    content = raw[KEY]
    if content.get("format") != FORMAT:
        raise CollectionError(
            "the collection's metadata has another format",
            where=f"collection {name!r}",
            got=repr(content.get("format")),
            expected=str(FORMAT),
            do="use the release of diptych that wrote it",
        )
    behind = sorted(key.removeprefix(BEHIND) for key, is_behind in raw.items() if key.startswith(BEHIND) and is_behind)
    try:
        return CollectionMetadata.model_validate({**content, "search": raw.get(SEARCH), "behind": behind})
    except ValidationError as error:
        first = error.errors()[0]
        raise CollectionError(
            "the collection's metadata is damaged",
            where=f"collection {name!r}, {'.'.join(map(str, first['loc']))}",
            got=repr(first["input"])[:80],
            expected=expectation(first),
        ) from error
