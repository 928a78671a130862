"""The passages of a copied collection, which are made from its documents' vectors instead of copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diptych.copying.side import Side
from diptych.handle.create import create_passages
from diptych.metadata.models import KEY, CollectionMetadata, Generation
from diptych.metadata.store import metadata_of
from diptych.stores.passage_collections import has_points
from diptych.stores.passage_points import PassagePoints


def prepare_passages(target: Side, metadata: Mapping[str, Any]) -> None:
    """Create the collections of passages that the metadata asks for.

    Raises:
        StoreUnsupported: the target is a server that is too old.
    """
    for generation, _ in _passages(target, metadata):
        create_passages(target.client, target.name, generation)


def make_passages(target: Side, metadata: Mapping[str, Any]) -> None:
    """Make what the target lacks of these passages."""
    prepare_passages(target, metadata)
    for _, passages in _passages(target, metadata):
        for page in passages.documents():
            passages.mend(page)


def described(target: Side, metadata: Mapping[str, Any]) -> CollectionMetadata | None:
    """What the metadata says of slots, None where diptych does not know the collection."""
    return metadata_of(metadata, target.name) if KEY in metadata else None


def _passages(target: Side, metadata: Mapping[str, Any]) -> Iterator[tuple[Generation, PassagePoints]]:
    if (known := described(target, metadata)) is None:
        return
    for vector, (_, generation) in known.written().items():
        if has_points(generation):
            yield generation, PassagePoints(target.client, target.name, vector, known.layout, target.call)
