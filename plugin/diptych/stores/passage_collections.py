"""The collections that hold the passages of documents of other collections; see `passage_points`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.metadata.models import CollectionMetadata, Generation
from diptych.passages import searches_points

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

KEY = "diptych_passages"  # metadata key of such a collection: the collection and the vector whose passages it holds
_END = ".passages"


def collection_of(name: str, vector: str) -> str:
    """The collection that holds the passages of a vector."""
    return f"{name}.{vector}{_END}"


def has_points(generation: Generation | None) -> bool:
    """Whether the passages of the generation are points."""
    return generation is not None and searches_points(generation.options)


def vectors_with_points(metadata: CollectionMetadata | None) -> tuple[str, ...]:
    """The vectors to write whose passages are points."""
    written = metadata.written() if metadata else {}
    return tuple(vector for vector, (_, generation) in written.items() if has_points(generation))


def collections_beside(client: QdrantBase, name: str, metadata: CollectionMetadata | None) -> list[str]:
    """The collections of passages that belong to a collection, as far as they are there."""
    named = [collection_of(name, vector) for vector in vectors_with_points(metadata)]
    return [own for own in named if client.collection_exists(own)]


def documents_collections(client: QdrantBase) -> list[str]:
    """The names of the store's collections, without those that hold the passages of another one."""
    names = sorted(found.name for found in client.get_collections().collections)
    return [name for name in names if not (name.endswith(_END) and _holds_passages(client, name))]


def _holds_passages(client: QdrantBase, name: str) -> bool:
    return KEY in (client.get_collection(name).config.metadata or {})


def drop(client: QdrantBase, name: str, vector: str) -> None:
    """Drop the passages of a vector, if they are points.

    That needs no wait, as dropping a vector does: a server replays a write to a collection from that collection's own
    log, which goes with it.
    """
    if client.collection_exists(collection_of(name, vector)):
        client.delete_collection(collection_of(name, vector))
