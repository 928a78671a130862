"""Finds inference objects in the arguments of qdrant-client's calls, and puts vectors in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel
from qdrant_client import models

Inference: TypeAlias = models.Document | models.Image | models.InferenceObject
INFERENCE = (models.Document, models.Image, models.InferenceObject)
# Fields of qdrant-client's models that hold no vectors; a payload may hold anything, and stays as it is.
_OTHER = frozenset({"payload", "payloads", "filter", "query_filter", "params"})
_PLAIN = frozenset({int, float, str, list})  # a list of these alone is a vector, a multi-vector, or ids


def inference_objects(value: Any) -> Iterator[Inference]:
    """The inference objects in `value`: a model, or lists and mappings of models, however deep."""
    if isinstance(value, INFERENCE):
        yield value
    else:
        for _, part in _parts(value):
            yield from inference_objects(part)


def replaced(value: Any, vectors: Mapping[int, Any]) -> Any:
    """`value` with vectors instead of its inference objects; what holds none is the same object, and none is changed.

    Args:
        vectors: by the `id()` of the object whose place they take.
    """
    if isinstance(value, INFERENCE):
        return vectors.get(id(value), value)
    changes = {key: new for key, part in _parts(value) if (new := replaced(part, vectors)) is not part}
    if not changes:
        return value
    if isinstance(value, BaseModel):
        return value.model_copy(update=changes)
    if isinstance(value, Mapping):
        return {**value, **changes}
    return [changes.get(index, part) for index, part in enumerate(value)]


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where inference objects may be in a value, with the key of each."""
    if isinstance(value, BaseModel):
        return ((name, part) for name, part in vars(value).items() if name not in _OTHER)
    if isinstance(value, Mapping):
        return iter(value.items())
    if isinstance(value, list | tuple) and not _PLAIN.issuperset(map(type, value)):
        return iter(enumerate(value))
    return iter(())
