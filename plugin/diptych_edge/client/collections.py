"""Creates, lists, describes, changes and deletes collections, their vectors and indexes, and aliases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import qdrant_edge as edge
from qdrant_client import models

from diptych.errors import CollectionError, CollectionNotFound
from diptych_edge.client.base import EdgeBase, check_arguments
from diptych_edge.convert.config import dense_vectors, edge_config, has_vectors, index_schema, vectors_of
from diptych_edge.convert.points import jsonable
from diptych_edge.engine.catalog import check_name
from diptych_edge.engine.collection import EdgeCollection, describe
from diptych_edge.engine.folders import Record

Vectors = models.VectorParams | Mapping[str, models.VectorParams]
_SETTINGS = ("hnsw_config", "optimizers_config", "quantization_config", "on_disk_payload", "payload", "id_tracker")

_PARTIAL = (
    models.HnswConfigDiff,
    models.OptimizersConfigDiff,
    models.VectorParamsDiff,
    models.SparseVectorParams,
    models.SparseIndexParams,
)  # what these leave out stays as it was; anything else replaces


class Collections(EdgeBase):
    """The part of EdgeClient that manages collections."""

    def create_collection(
        self,
        collection_name: str,
        vectors_config: Vectors | None = None,
        sparse_vectors_config: Mapping[str, models.SparseVectorParams] | None = None,
        metadata: models.Payload | None = None,
        **kwargs: Any,
    ) -> bool:
        """Create an empty collection. Arguments as on a server; see `arguments` for those that are ignored.

        Raises:
            CollectionError: the name is taken or cannot be one.
            StoreUnsupported: settings that only a server has.
        """
        settings = {name: kwargs.pop(name, None) for name in _SETTINGS}
        check_arguments("create_collection", kwargs)
        config = models.CreateCollection(
            vectors=vectors_config if isinstance(vectors_config, models.VectorParams) else dict(vectors_config or {}),
            sparse_vectors=dict(sparse_vectors_config) if sparse_vectors_config else None,
            metadata=jsonable(metadata, "the metadata"),
            **settings,
        )
        _check_vectors(config)
        self._catalog.create(collection_name, config)
        return True

    def recreate_collection(
        self,
        collection_name: str,
        vectors_config: Vectors | None = None,
        sparse_vectors_config: Mapping[str, models.SparseVectorParams] | None = None,
        metadata: models.Payload | None = None,
        **kwargs: Any,
    ) -> bool:
        """Delete the collection if it exists, and create it anew."""
        check_name(collection_name, "collection")
        self.delete_collection(collection_name)
        return self.create_collection(collection_name, vectors_config, sparse_vectors_config, metadata, **kwargs)

    def delete_collection(self, collection_name: str, **kwargs: Any) -> bool:
        """Delete a collection and its aliases; False if it does not exist."""
        check_arguments("delete_collection", kwargs)
        return self._catalog.delete(collection_name)

    def get_collections(self, **kwargs: Any) -> models.CollectionsResponse:
        """The names of all collections."""
        check_arguments("get_collections", kwargs)
        names = self._catalog.names()
        return models.CollectionsResponse(collections=[models.CollectionDescription(name=name) for name in names])

    def collection_exists(self, collection_name: str, **kwargs: Any) -> bool:
        """Whether a collection or alias of this name exists."""
        check_arguments("collection_exists", kwargs)
        try:
            self._find(collection_name)
        except CollectionNotFound:
            return False
        return True

    def get_collection(self, collection_name: str, **kwargs: Any) -> models.CollectionInfo:
        """Settings and counts of a collection; `status` is grey when `optimize` would help, yellow while it runs."""
        check_arguments("get_collection", kwargs)
        return describe(self._find(collection_name))

    def get_metadata(self, collection_name: str) -> models.Payload:
        """Only the metadata: `get_collection` also counts vectors without an index, which takes time for each point."""
        return self._find(collection_name).record.config.metadata or {}

    def update_collection(
        self,
        collection_name: str,
        sparse_vectors_config: Mapping[str, models.SparseVectorParams] | None = None,
        metadata: models.Payload | None = None,
        vectors_config: Mapping[str, models.VectorParamsDiff] | None = None,
        **kwargs: Any,
    ) -> bool:
        """Merge `metadata` (a null deletes its key) and change settings; HNSW and quantization need `optimize`.

        Raises:
            CollectionError: settings for a vector that the collection has not.
        """
        params = kwargs.pop("collection_params", None)
        arguments = {**kwargs, **({name: getattr(params, name) for name in params.model_fields_set} if params else {})}
        changes = {name: value for name in _SETTINGS if (value := arguments.pop(name, None)) is not None}
        check_arguments("update_collection", arguments)
        collection = self._find(collection_name)
        if vectors_config or sparse_vectors_config or changes:
            reconfigure(collection, vectors_config or {}, sparse_vectors_config or {}, changes)
        if metadata is not None:
            added = jsonable(metadata, "the metadata")
            removed = {key for key, value in added.items() if value is None}

            def merge(record: Record) -> Record:
                merged = {**(record.config.metadata or {}), **added}
                return record.with_config(metadata={k: v for k, v in merged.items() if k not in removed})

            collection.change(merge)
        return bool(vectors_config or sparse_vectors_config or changes or metadata is not None)


def _check_vectors(config: models.CreateCollection) -> None:
    for name, params in dense_vectors(config).items():
        if name:
            check_name(name, "vector")
        if not 1 <= params.size <= 65536:
            raise CollectionError(
                "a vector's size is impossible", where=repr(name), got=params.size, expected="1 to 65536"
            )
    for name in config.sparse_vectors or {}:
        check_name(name, "vector")


# Aliases: second names of collections, changed all at once.


class Aliases(EdgeBase):
    """The part of EdgeClient that manages aliases."""

    def update_collection_aliases(
        self, change_aliases_operations: Sequence[models.AliasOperations], **kwargs: Any
    ) -> bool:
        """Apply all operations or none.

        Raises:
            CollectionError: an alias would hide a collection, or the one to rename is not there.
            CollectionNotFound: the collection to point at is not there.
        """
        check_arguments("update_collection_aliases", kwargs)
        aliases = dict(self._catalog.aliases)  # a copy, so that an operation that fails leaves all as it was
        for operation in change_aliases_operations:
            self._apply(operation, aliases)
        self._catalog.set_aliases(aliases)
        return True

    def get_aliases(self, **kwargs: Any) -> models.CollectionsAliasesResponse:
        """All aliases."""
        check_arguments("get_aliases", kwargs)
        return _response(self._catalog.aliases.items())

    def get_collection_aliases(self, collection_name: str, **kwargs: Any) -> models.CollectionsAliasesResponse:
        """The aliases of one collection."""
        check_arguments("get_collection_aliases", kwargs)
        return _response(item for item in self._catalog.aliases.items() if item[1] == collection_name)

    def _apply(self, operation: models.AliasOperations, aliases: dict[str, str]) -> None:
        if isinstance(operation, models.CreateAliasOperation):
            created = operation.create_alias
            self._check_free(created.alias_name)
            aliases[created.alias_name] = self._find(created.collection_name).record.name
        elif isinstance(operation, models.DeleteAliasOperation):
            aliases.pop(operation.delete_alias.alias_name, None)
        else:
            renamed = operation.rename_alias
            self._check_free(renamed.new_alias_name)
            if renamed.old_alias_name not in aliases:
                raise CollectionError(f"there is no alias {renamed.old_alias_name!r}", expected=", ".join(aliases))
            aliases[renamed.new_alias_name] = aliases.pop(renamed.old_alias_name)

    def _check_free(self, alias: str) -> None:
        check_name(alias, "alias")
        if alias in self._catalog.names():
            raise CollectionError(f"there is a collection {alias!r} already", do="choose another name for the alias")


def _response(items: Any) -> models.CollectionsAliasesResponse:
    return models.CollectionsAliasesResponse(
        aliases=[models.AliasDescription(alias_name=alias, collection_name=name) for alias, name in items]
    )


def reconfigure(
    collection: EdgeCollection,
    vectors: Mapping[str, models.VectorParamsDiff],
    sparse: Mapping[str, models.SparseVectorParams],
    settings: Mapping[str, Any],
) -> None:
    """Write the changed settings and reload the shard; if Edge refuses them, everything stays as before.

    Raises:
        CollectionError: settings for a vector that the collection has not.
    """
    for name in (*vectors, *sparse):
        collection.require_vector(name)
    with collection.maintenance:
        before, changed = collection.record, _changed(collection.record, vectors, sparse, settings)
        config = edge_config(changed.config) if has_vectors(changed.config) else None
        collection.change(lambda record: replace(record, config=changed.config, stale=True))
        try:
            collection.shard.reload(collection.folder / before.shard, config)
        except BaseException:
            collection.change(lambda record: before)
            raise


def _changed(
    record: Record,
    vectors: Mapping[str, models.VectorParamsDiff],
    sparse: Mapping[str, models.SparseVectorParams],
    settings: Mapping[str, Any],
) -> Record:
    dense = dense_vectors(record.config)
    dense_params = {name: _with_settings(params, vectors.get(name)) for name, params in dense.items()}
    sparse_params = {
        name: _with_settings(params, sparse.get(name)) for name, params in (record.config.sparse_vectors or {}).items()
    }
    merged = {name: _with_settings(getattr(record.config, name), value) for name, value in settings.items()}
    return record.with_config(vectors=vectors_of(dense_params), sparse_vectors=sparse_params or None, **merged)


def _with_settings(old: Any, diff: Any) -> Any:
    """`old` with the values that `diff` sets."""
    if diff is None:
        return old
    if old is None or not isinstance(diff, _PARTIAL):
        return None if diff == models.Disabled.DISABLED else diff
    values = {name: value for name in diff.model_fields_set if (value := getattr(diff, name)) is not None}
    return old.model_copy(update={name: _with_settings(getattr(old, name), value) for name, value in values.items()})


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
        collection.require_vector(vector_name)
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
