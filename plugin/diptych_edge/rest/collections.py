"""Routes of collections, their aliases, vectors and indexes."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from diptych_edge.rest.request import Request, Route

_RENAMED = ("vectors", "sparse_vectors")  # arguments of a creation or update that have other names in the body


def _exists(request: Request) -> Any:
    return models.CollectionExistence(exists=request.client.collection_exists(request.name))


def _create(request: Request) -> Any:
    config: models.CreateCollection = request.read(models.CreateCollection)
    return request.client.create_collection(
        request.name,
        vectors_config=config.vectors,  # type: ignore[arg-type]  # none at all is fine
        sparse_vectors_config=config.sparse_vectors,
        **_set_fields(config),
    )


def _update(request: Request) -> Any:
    config: models.UpdateCollection = request.read(models.UpdateCollection)
    changes = _set_fields(config)
    if "params" in changes:
        changes["collection_params"] = changes.pop("params")
    for name, value in (("vectors_config", config.vectors), ("sparse_vectors_config", config.sparse_vectors)):
        if value is not None:
            changes[name] = value
    return request.client.update_collection(request.name, **changes)


def _set_fields(model: Any) -> dict[str, Any]:
    """The fields that are set, except those that the client names differently."""
    return {
        name: value
        for name in model.model_fields_set
        if name not in _RENAMED and (value := getattr(model, name)) is not None
    }


def _change_aliases(request: Request) -> Any:
    return request.client.update_collection_aliases(request.read(models.ChangeAliasesOperation).actions)


def _create_vector(request: Request) -> Any:
    name, vector = request.names
    return request.client.create_vector_name(name, vector, request.read(models.VectorNameConfig))


def _create_index(request: Request) -> Any:
    index: models.CreateFieldIndex = request.read(models.CreateFieldIndex)
    return request.client.create_payload_index(request.name, index.field_name, index.field_schema)


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/"): lambda request: request.client.info(),
    ("GET", "/collections"): lambda request: request.client.get_collections(),
    ("GET", "/collections/{}"): lambda request: request.client.get_collection(request.name),
    ("PUT", "/collections/{}"): _create,
    ("PATCH", "/collections/{}"): _update,
    ("DELETE", "/collections/{}"): lambda request: request.client.delete_collection(request.name),
    ("GET", "/collections/{}/exists"): _exists,
    ("GET", "/collections/{}/optimizations"): lambda request: request.client.get_optimizations(request.name),
    ("GET", "/aliases"): lambda request: request.client.get_aliases(),
    ("GET", "/collections/{}/aliases"): lambda request: request.client.get_collection_aliases(request.name),
    ("POST", "/collections/aliases"): _change_aliases,
    ("PUT", "/collections/{}/vectors/{}"): _create_vector,
    ("DELETE", "/collections/{}/vectors/{}"): lambda request: request.client.delete_vector_name(*request.names),
    ("PUT", "/collections/{}/index"): _create_index,
    ("DELETE", "/collections/{}/index/{}"): lambda request: request.client.delete_payload_index(*request.names),
}
