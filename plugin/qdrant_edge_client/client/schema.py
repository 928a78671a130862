"""Adds and drops named vectors and payload indexes in a collection that is in use."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge
from qdrant_client import models

from qdrant_edge_client.client.base import EdgeBase
from qdrant_edge_client.client.unsupported import check_arguments
from qdrant_edge_client.convert.indexes import index_schema
from qdrant_edge_client.engine.catalog import check_name
from qdrant_edge_client.engine.collection import EdgeCollection
from qdrant_edge_client.errors import CollectionError


class Schema(EdgeBase):
    """The part of EdgeClient that changes named vectors and payload indexes."""

    def create_vector_name(
        self, collection_name: str, vector_name: str, vector_name_config: models.VectorNameConfig, **kwargs: Any
    ) -> models.UpdateResult:
        """Add a named vector, which no point has yet.

        Raises:
            CollectionError: the name is taken or cannot be one.
        """
        check_arguments("create_vector_name", kwargs)
        collection = self._find(collection_name)
        check_name(vector_name, "vector")
        if vector_name in collection.space:
            raise CollectionError(f"there is a vector {vector_name!r} already", do="drop it with delete_vector_name")
        collection.add_vector(vector_name, vector_name_config)
        return self._done()

    def delete_vector_name(self, collection_name: str, vector_name: str, **kwargs: Any) -> models.UpdateResult:
        """Drop a named vector from the collection and all its points.

        Raises:
            CollectionError: the collection has no such vector.
        """
        check_arguments("delete_vector_name", kwargs)
        collection = self._find(collection_name)
        _check_known(collection, vector_name)
        collection.drop_vector(vector_name)
        return self._done()

    def create_payload_index(
        self,
        collection_name: str,
        field_name: str,
        field_schema: Any = None,
        field_type: Any = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Index a payload field; `field_type` is the old name of `field_schema`."""
        check_arguments("create_payload_index", kwargs)
        collection, schema = self._find(collection_name), field_type if field_schema is None else field_schema
        if schema is None:
            raise CollectionError(
                "the index has no type", where=f"field {field_name!r}", do="give field_schema, such as 'keyword'"
            )
        return self._write(
            collection, lambda: edge.UpdateOperation.create_field_index(field_name, index_schema(schema))
        )

    def delete_payload_index(self, collection_name: str, field_name: str, **kwargs: Any) -> models.UpdateResult:
        """Drop the index of a payload field."""
        check_arguments("delete_payload_index", kwargs)
        return self._write(self._find(collection_name), lambda: edge.UpdateOperation.delete_field_index(field_name))


def _check_known(collection: EdgeCollection, name: str) -> None:
    if name not in collection.space:
        raise CollectionError(
            f"the collection has no vector {name!r}",
            where=f"collection {collection.record.name!r}",
            expected=", ".join(map(repr, collection.space)),
        )
