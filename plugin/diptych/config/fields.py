"""Looks up which keys a config may hold at a place."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from diptych.config.source import Location


def fields_at(model: type[BaseModel], location: Location) -> dict[str, str]:
    """The keys that `model` allows at `location`, with their descriptions; empty where any key goes."""
    section = _walk(model, list(location))
    if isinstance(section, type) and issubclass(section, BaseModel):
        return {name: field.description or "" for name, field in section.model_fields.items()}
    return {}


def kinds_at(model: type[BaseModel], location: Location) -> list[str]:
    """What `kind` can be in the section at `location`."""
    section = _walk(model, list(location))
    return [kind for member in section for kind in _kinds(member)] if isinstance(section, tuple) else []


def places_of(model: type[BaseModel], key: str) -> list[str]:
    """The sections of `model`, named from its top, that have a key of this name: `["search"]` for `limit`."""
    sections = {name: _unwrap(field.annotation) for name, field in model.model_fields.items()}
    return [name for name, section in sections.items() if key in getattr(section, "model_fields", {})]


def _walk(annotation: Any, location: list[str | int]) -> Any:
    """The type of the value that `location` leads to, from a value of type `annotation`."""
    annotation = _unwrap(annotation)
    if not location:
        return annotation
    key, rest = location[0], location[1:]
    if isinstance(annotation, tuple):
        return _walk(_tagged(annotation, key), rest)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(key))
        return _walk(field.annotation, rest) if field else None
    arguments = get_args(annotation)
    return _walk(arguments[-1], rest) if get_origin(annotation) in (dict, list) else None


def _unwrap(annotation: Any) -> Any:
    """Without Annotated and None; a union of several sections as a tuple of them."""
    if get_origin(annotation) is Annotated:
        return _unwrap(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        members = tuple(member for member in get_args(annotation) if member is not type(None))
        return _unwrap(members[0]) if len(members) == 1 else members
    return annotation


def _tagged(members: Iterable[Any], tag: str | int) -> Any:
    """The section whose `kind` is `tag`."""
    return next((member for member in members if tag in _kinds(member)), None)


def _kinds(member: Any) -> tuple[Any, ...]:
    field = member.model_fields.get("kind") if isinstance(member, type) and issubclass(member, BaseModel) else None
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
