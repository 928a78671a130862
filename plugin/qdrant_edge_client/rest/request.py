"""A request for a route handler, with its body read into qdrant-client's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

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
        return _adapter(kind).validate_python(self.body)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
