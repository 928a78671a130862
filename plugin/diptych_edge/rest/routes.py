"""Maps requests on Qdrant's routes to calls of a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from pydantic import BaseModel, TypeAdapter
from pydantic_core import SchemaValidator
from qdrant_client import models

from diptych.runtime.unchecked import unchecked

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

_Selector = models.PointsSelector
_record_of = unchecked(models.SparseVector)

MOST_FIELDS = 64  # of an object with given fields; a payload has as many as it likes
Route: TypeAlias = Callable[["Request"], Any]
_RENAMED = ("vectors", "sparse_vectors")  # arguments of a creation or update that have other names in the body

Table: TypeAlias = Mapping[tuple[str, str], Route]


class NoRoute(Exception):
    """There is no such route."""


class Routes:
    """Answers requests by calls of `client`.

    Args:
        client: any client with qdrant-client's interface.
        further: additional routes by method and path; `{}` stands for a name.
    """

    def __init__(self, client: QdrantBase, further: Table | None = None) -> None:
        self.client = client
        self._routes: dict[tuple[str, int], list[tuple[list[str], Route]]] = {}
        for (method, path), route in {**ROUTES, **(further or {})}.items():
            pattern = path.strip("/").split("/")
            self._routes.setdefault((method, len(pattern)), []).append((pattern, route))

    def answer(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> Any:
        """The result of a request.

        Raises:
            NoRoute: there is no such route.
            DiptychError, ValueError: as the client refuses the call.
        """
        segments = path.strip("/").split("/")
        for pattern, route in self._routes.get((method, len(segments)), ()):
            if all(part in ("{}", segment) for part, segment in zip(pattern, segments, strict=True)):
                names = (unquote(segment) for part, segment in zip(pattern, segments, strict=True) if part == "{}")
                return route(Request(self.client, tuple(names), body, query))
        raise NoRoute(f"{method} {path}")


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


@dataclass(frozen=True, slots=True)
class Request:
    """A request: the client that answers it, the names in the path, the body's JSON and the query parameters."""

    client: QdrantBase
    names: tuple[str, ...]
    body: Any
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The collection."""
        return self.names[0]

    def read(self, kind: Any) -> Any:
        """The body as a model of qdrant-client's.

        Raises:
            ValueError: the body does not fit the model.
        """
        return validator(kind).validate_python(self.body)


@cache
def validator(kind: Any) -> SchemaValidator:
    """Validates values as qdrant-client's model does, but stops at the first wrong item of each list or object."""
    schema: Any = _stopping_early(TypeAdapter(kind).core_schema)
    return SchemaValidator(schema)


def _stopping_early(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return type(schema)(map(_stopping_early, schema))
    if not isinstance(schema, Mapping):  # pydantic may build it only now
        return schema
    kind, changed = schema.get("type"), {name: _stopping_early(part) for name, part in schema.items()}
    if kind in ("list", "dict", "set", "tuple"):
        changed["fail_fast"] = True
    if kind == "model-fields":  # each unknown field would be an error
        return {"type": "function-before", "function": {"type": "no-info", "function": _narrow}, "schema": changed}
    if kind == "model":  # pydantic would use the model's own validator, which does not stop
        changed["schema"]["schema"]["extra_behavior"] = schema["config"].get("extra_fields_behavior")
        build = {"type": "no-info", "function": _maker(schema["cls"])}
        return {"type": "function-after", "function": build, "schema": changed["schema"], "ref": schema.get("ref")}
    return changed


def _maker(model: type[BaseModel]) -> Callable[[tuple[Any, Any, Any]], BaseModel]:
    """Makes a model of what its fields' schema returns: values, further fields, names of those that were given."""
    make_model = unchecked(model)

    def make(fields: tuple[Any, Any, Any]) -> BaseModel:
        made = make_model(fields[0])
        object.__setattr__(made, "__pydantic_extra__", fields[1])
        object.__setattr__(made, "__pydantic_fields_set__", fields[2])
        return made

    return make


def _narrow(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MOST_FIELDS:
        raise ValueError(f"an object with at most {MOST_FIELDS} fields is expected")
    return value


def _one(request: Request) -> Any:
    text = request.names[1]
    records = request.client.retrieve(request.name, [int(text) if text.isdigit() else text], with_vectors=True)
    if not records:
        raise LookupError(f"there is no point {text}")
    return records[0]


def _scroll(request: Request) -> Any:
    records, next_offset = request.client.scroll(request.name, **_arguments(request, models.ScrollRequest, "scroll"))
    return {"points": records, "next_page_offset": next_offset}


def _arguments(request: Request, kind: Any, filters: str = "query") -> dict[str, Any]:
    """What the body gives, by the names of the client's arguments: it has defaults of its own, and refuses shard keys.

    `filters` says whose filter it is: `scroll_filter`, for instance.
    """
    names = {"shard_key": "shard_key_selector", "with_vector": "with_vectors", "params": "search_params"}
    names |= {"filter": f"{filters}_filter", "vector": "vectors"}
    given = request.read(kind).__dict__.items()
    return {names.get(name, name): value for name, value in given if value is not None}


def _changes(request: Request, kind: Any) -> dict[str, Any]:
    """The same for an update, whose points are selected by ids or by a filter."""
    arguments = _arguments(request, kind)
    by_filter = arguments.pop("query_filter", None)
    if arguments.setdefault("points", by_filter) is None:
        raise ValueError("an update selects no points: give `points` or `filter`")
    return arguments


def _upsert(request: Request) -> Any:
    body = _object(request.body)
    if "batch" in body:
        batch: models.PointsBatch = request.read(models.PointsBatch)
        return request.client.upsert(request.name, batch.batch, **_options(batch))
    fields: Any = _without(request, models.PointsList, "points")
    points: Any = [_point(point) for point in _list(body.get("points"))]
    return request.client.upsert(request.name, points, **_options(fields))


def _update_vectors(request: Request) -> Any:
    fields: Any = _without(request, models.UpdateVectors, "points")
    points: Any = [_point(point, models.PointVectors) for point in _list(_object(request.body).get("points"))]
    return request.client.update_vectors(request.name, points, **_options(fields))


def _options(body: Any) -> dict[str, Any]:
    options = {name: getattr(body, name, None) for name in ("update_filter", "update_mode")}
    options["shard_key_selector"] = body.shard_key  # a client without shards refuses it
    return {name: value for name, value in options.items() if value is not None}


def _without(request: Request, kind: Any, field: str) -> Any:
    """The body as a model, with its long field empty."""
    return Request(request.client, request.names, {**_object(request.body), field: []}).read(kind)


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    return body


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("`points` is not a list")
    return value


def _point(raw: Any, kind: Any = models.PointStruct) -> Any:
    """A point, or its vectors. Vectors that are lists of numbers are passed on as they came."""
    if isinstance(raw, dict) and {"id", "vector"} <= raw.keys() <= kind.model_fields.keys():
        vector = _vectors(raw["vector"])
        if vector is not None and isinstance(raw["id"], int | str) and isinstance(raw.get("payload"), dict | None):
            return kind.model_construct(**{**raw, "vector": vector})
    return validator(kind).validate_python(raw)


def _vectors(raw: Any) -> Any:
    """The vectors of a point; None if the model must interpret them."""
    if isinstance(raw, list):
        return raw if _is_numeric(raw) else None
    if not isinstance(raw, dict):
        return None
    vectors = {name: _vector(vector) for name, vector in raw.items()}
    return None if any(vector is None for vector in vectors.values()) else vectors


def _vector(raw: Any) -> Any:
    if isinstance(raw, dict):
        return _record_of(raw) if raw.keys() == {"indices", "values"} and _is_sparse(raw) else None
    return raw if isinstance(raw, list) and _is_numeric(raw) else None


def _is_sparse(raw: dict[str, Any]) -> bool:
    return isinstance(raw["indices"], list) and isinstance(raw["values"], list) and _is_numeric(raw["values"])


def _is_numeric(raw: list[Any]) -> bool:
    """Whether it begins like numbers or rows of numbers; the engine checks each of them."""
    first = raw[0] if raw else 0.0
    return isinstance(first[0] if isinstance(first, list) and first else first, int | float)


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/"): lambda r: r.client.info(),
    ("GET", "/collections"): lambda r: r.client.get_collections(),
    ("GET", "/collections/{}"): lambda r: r.client.get_collection(r.name),
    ("PUT", "/collections/{}"): _create,
    ("PATCH", "/collections/{}"): _update,
    ("DELETE", "/collections/{}"): lambda r: r.client.delete_collection(r.name),
    ("GET", "/collections/{}/exists"): lambda r: models.CollectionExistence(exists=r.client.collection_exists(r.name)),
    ("GET", "/collections/{}/optimizations"): lambda r: r.client.get_optimizations(r.name),
    ("GET", "/aliases"): lambda r: r.client.get_aliases(),
    ("GET", "/collections/{}/aliases"): lambda r: r.client.get_collection_aliases(r.name),
    ("POST", "/collections/aliases"): lambda r: r.client.update_collection_aliases(
        r.read(models.ChangeAliasesOperation).actions
    ),
    ("PUT", "/collections/{}/vectors/{}"): lambda r: r.client.create_vector_name(
        r.name, r.names[1], r.read(models.VectorNameConfig)
    ),
    ("DELETE", "/collections/{}/vectors/{}"): lambda r: r.client.delete_vector_name(*r.names),
    ("PUT", "/collections/{}/index"): lambda r: r.client.create_payload_index(
        r.name, **r.read(models.CreateFieldIndex).__dict__
    ),
    ("DELETE", "/collections/{}/index/{}"): lambda r: r.client.delete_payload_index(*r.names),
    ("POST", "/collections/{}/points"): lambda r: r.client.retrieve(r.name, **_arguments(r, models.PointRequest)),
    ("PUT", "/collections/{}/points"): _upsert,
    ("GET", "/collections/{}/points/{}"): _one,
    ("POST", "/collections/{}/points/scroll"): _scroll,
    ("POST", "/collections/{}/points/count"): lambda r: r.client.count(
        r.name, **_arguments(r, models.CountRequest, "count")
    ),
    ("POST", "/collections/{}/facet"): lambda r: r.client.facet(r.name, **_arguments(r, models.FacetRequest, "facet")),
    ("POST", "/collections/{}/points/delete"): lambda r: r.client.delete(r.name, r.read(_Selector)),
    ("POST", "/collections/{}/points/batch"): lambda r: r.client.batch_update_points(
        r.name, r.read(models.UpdateOperations).operations
    ),
    ("PUT", "/collections/{}/points/vectors"): _update_vectors,
    ("POST", "/collections/{}/points/vectors/delete"): lambda r: r.client.delete_vectors(
        r.name, **_changes(r, models.DeleteVectors)
    ),
    ("POST", "/collections/{}/points/payload"): lambda r: r.client.set_payload(
        r.name, **_changes(r, models.SetPayload)
    ),
    ("PUT", "/collections/{}/points/payload"): lambda r: r.client.overwrite_payload(
        r.name, **_changes(r, models.SetPayload)
    ),
    ("POST", "/collections/{}/points/payload/delete"): lambda r: r.client.delete_payload(
        r.name, **_changes(r, models.DeletePayload)
    ),
    ("POST", "/collections/{}/points/payload/clear"): lambda r: r.client.clear_payload(r.name, r.read(_Selector)),
    ("POST", "/collections/{}/points/query"): lambda r: r.client.query_batch_points(
        r.name, [r.read(models.QueryRequest)]
    )[0],
    ("POST", "/collections/{}/points/query/batch"): lambda r: r.client.query_batch_points(
        r.name, r.read(models.QueryRequestBatch).searches
    ),
    ("POST", "/collections/{}/points/query/groups"): lambda r: r.client.query_points_groups(
        r.name, **{"with_payload": False, **_arguments(r, models.QueryGroupsRequest)}
    ),
    ("POST", "/collections/{}/points/search/matrix/pairs"): lambda r: r.client.search_matrix_pairs(
        r.name, **_arguments(r, models.SearchMatrixRequest)
    ),
    ("POST", "/collections/{}/points/search/matrix/offsets"): lambda r: r.client.search_matrix_offsets(
        r.name, **_arguments(r, models.SearchMatrixRequest)
    ),
}
