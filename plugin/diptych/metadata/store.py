"""Reads and writes the metadata of a collection. Older formats are upgraded; each writer has its own key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from diptych.errors import CollectionError, CollectionNotFound
from diptych.metadata.models import BEHIND, COPY, FORMAT, KEY, SEARCH, CollectionMetadata
from qdrant_edge_client.value_errors import expectation

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


def read_metadata(client: QdrantBase, name: str) -> CollectionMetadata | None:
    """The metadata of a collection, or None when diptych does not know the collection.

    Raises:
        CollectionNotFound: there is no such collection.
        CollectionError: the metadata is of a newer format, or damaged.
    """
    if not client.collection_exists(name):
        existing = sorted(c.name for c in client.get_collections().collections)
        raise CollectionNotFound(
            f"there is no collection {name!r}",
            expected=", ".join(existing) or "the store is empty",
            do="fill it first: diptych populate SOURCE",
        )
    raw = raw_metadata(client, name)
    if KEY not in raw and (raw.get(COPY) or {}).get("stage", "done") != "done":
        raise _unfinished(raw[COPY], name)
    return _parse(raw, name) if KEY in raw else None


def known_metadata(client: QdrantBase, name: str) -> CollectionMetadata:
    """The metadata of a collection that diptych knows.

    Raises:
        CollectionNotFound, CollectionError: there is no such collection, or diptych does not know it.
    """
    metadata = read_metadata(client, name)
    if metadata is None:
        raise CollectionError(
            "diptych does not know this collection",
            where=f"collection {name!r}",
            do="take it over: diptych adopt; or choose another name",
        )
    return metadata


def raw_metadata(client: QdrantBase, name: str) -> Mapping[str, Any]:
    """The whole stored metadata by key; for embedded stores without any further information."""
    alone = getattr(client, "get_metadata", None)
    found: Mapping[str, Any] = alone(name) if alone else client.get_collection(name).config.metadata or {}
    return found


def metadata_payload(metadata: CollectionMetadata) -> dict[str, Any]:
    """The metadata in the form for `create_collection(metadata=...)` and `update_collection`."""
    # What no tenant asked for is left out, so that releases before tenants read it. They refuse a collection that has
    # tenants, of which they know nothing, rather than answer over all of them.
    untold = {"search", "behind"} if metadata.tenancy else {"search", "behind", "tenancy"}
    return {KEY: metadata.model_dump(mode="json", exclude=untold), **search_payload(metadata.search)}


def search_payload(search: Mapping[str, Any] | None) -> dict[str, Any]:
    """The pipeline alone, under its own key."""
    return {SEARCH: dict(search) if search is not None else None}


def behind_key(vector: str) -> str:
    """The key that marks a vector as behind; each vector has its own, so that parallel populates keep all marks."""
    return f"{BEHIND}{vector}"


def _unfinished(copy: Mapping[str, Any], name: str) -> CollectionError:
    """Refuse an unfinished copy: its metadata is valid only when the copy is complete."""
    return CollectionError(
        "the collection is an unfinished copy",
        where=f"collection {name!r}",
        got=f"{copy.get('copied', 0):,} points so far of {copy.get('store')}, collection {copy.get('collection')!r}",
        do="finish it: run the same diptych copy again, it continues where it stopped",
    )


def _parse(raw: Mapping[str, Any], name: str) -> CollectionMetadata:
    own = raw[KEY]
    if own.get("format") not in (1, FORMAT):
        raise CollectionError(
            "the collection's metadata has another format",
            where=f"collection {name!r}",
            got=repr(own.get("format")),
            expected=str(FORMAT),
            do="use the release of diptych that wrote it, or a newer one",
        )
    own = _upgraded(own) if own["format"] == 1 else {**own, "search": raw.get(SEARCH)}
    try:
        return CollectionMetadata.model_validate({**own, "behind": _behind(raw)})
    except ValidationError as error:
        first = error.errors()[0]
        raise CollectionError(
            "the collection's metadata is damaged",
            where=f"collection {name!r}, {'.'.join(map(str, first['loc']))}",
            got=repr(first["input"])[:80],
            expected=expectation(first),
        ) from error


def _behind(raw: Mapping[str, Any]) -> list[str]:
    return sorted(key.removeprefix(BEHIND) for key, behind in raw.items() if key.startswith(BEHIND) and behind)


def _upgraded(own: Mapping[str, Any]) -> dict[str, Any]:
    """Format 1, which had one generation for each slot, as format 2."""
    slots = own.get("slots") or {}
    reading = {key: own[key] for key in ("input", "separator") if key in own}
    live = {name: {**(slot.get("live") or {}), "reading": reading} for name, slot in slots.items()}
    numbers = {name: generation.get("number", 1) for name, generation in live.items()}
    return {"format": FORMAT, "live": {"slots": live}, "numbers": numbers, "search": own.get("search")}
