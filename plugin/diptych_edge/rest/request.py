"""A request for a route handler, with its body read into qdrant-client's models.

pydantic collects all errors of a list, for each alternative of its items: a body of 1.5 MB took 2 minutes and 4 GB. So
the models' schemas are changed to stop at the first wrong item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, TypeAdapter
from pydantic_core import SchemaValidator

from diptych.runtime.unchecked import unchecked

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

MOST_FIELDS = 64  # of an object with given fields; a payload has as many as it likes
Route: TypeAlias = Callable[["Request"], Any]


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
