"""What a collection says about itself: kept in the collection's own metadata, under the key `diptych`.

Per slot: the live generation with its physical vector name, adapter and options (as written, `${NAME}` unfilled), the
fingerprint, canaries, and corpus statistics; and the search pipeline it was created with. So a collection can be opened
and searched without a config file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from diptych.errors import CollectionError, CollectionNotFound
from diptych.protocols import Fingerprint, Kind

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

KEY = "diptych"
FORMAT = 1


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Canaries(_Record):
    """Vectors of the guard's texts, packed as text; see `diptych.guard`."""

    query: list[str]
    document: list[str]


class Generation(_Record):
    """One physical named vector of a slot, and what made it."""

    number: int
    vector: str
    kind: Kind
    adapter: str
    options: dict[str, Any]
    storage: dict[str, Any] = {}
    space: str
    numerics: str
    canaries: Canaries | None = None
    statistics: dict[str, float] | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """Space and numerics as one value."""
        return Fingerprint(self.space, self.numerics)


class SlotRecord(_Record):
    """A slot: the generation that answers queries."""

    live: Generation


class CollectionMetadata(_Record):
    """All that diptych keeps about a collection."""

    format: int = FORMAT
    slots: dict[str, SlotRecord]
    input: list[str] = ["title", "text"]
    separator: str = " "
    search: dict[str, Any] | None = None


def read_metadata(client: QdrantBase, name: str) -> CollectionMetadata | None:
    """The metadata of a collection, or None when diptych did not make it.

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
    raw = (client.get_collection(name).config.metadata or {}).get(KEY)
    return None if raw is None else _parse(raw, name)


def metadata_payload(metadata: CollectionMetadata) -> dict[str, Any]:
    """The form in which Qdrant keeps it, for `create_collection(metadata=...)` and `update_collection`."""
    return {KEY: metadata.model_dump(mode="json")}


def _parse(raw: Mapping[str, Any], name: str) -> CollectionMetadata:
    if raw.get("format") != FORMAT:
        raise CollectionError(
            "the collection's metadata has another format",
            where=f"collection {name!r}",
            got=repr(raw.get("format")),
            expected=str(FORMAT),
            do="use the release of diptych that wrote it, or a newer one",
        )
    try:
        return CollectionMetadata.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise CollectionError(
            "the collection's metadata is damaged",
            where=f"collection {name!r}, {'.'.join(map(str, first['loc']))}",
            got=first["msg"],
        ) from error
