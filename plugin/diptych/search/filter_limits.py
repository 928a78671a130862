"""Limits the size of a filter, before pydantic tries each value as every condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from diptych.errors import SearchError
from diptych.runtime.value_errors import shown

DEEPEST = 40  # nested objects and lists
MOST_OBJECTS = 2_000  # conditions and what they are made of
MOST_VALUES = 100_000  # keys and values, ids included
CLAUSES = {"must", "should", "must_not", "conditions"}
LONG = 100  # items of a list that are looked at before pydantic does
SCALARS, OBJECTS = {"any", "except", "has_id"}, {*CLAUSES, "points", "interiors"}  # what may be long lists of what
Node: TypeAlias = tuple[Any, int, str]


def require_small(filter: object, *, name: str = "filter") -> None:
    """Raise SearchError for a filter that is too large or deep, or has values that no store accepts.

    pydantic tries each value as every kind of condition and lists all failures, so this check runs first.
    """
    objects = values = 0
    nodes: list[Node] = [(filter, 0, "")]
    while nodes:
        value, depth, where = nodes.pop()
        if depth > DEEPEST:
            raise _too_much(name, where, f"more than {DEEPEST} objects and lists within one another")
        if isinstance(value, Mapping):
            objects += 1
            _require_conditions(value, name, where)
            nodes += [(own, depth + 1, _below(where, key)) for key, own in value.items()]
        elif isinstance(value, list):
            _require_fitting(value, name, where)
            nodes += [(own, depth + 1, where) for own in value]
        else:
            values += 1
        if objects > MOST_OBJECTS or values + len(nodes) > MOST_VALUES:
            raise _too_much(name, where, f"more than {MOST_OBJECTS:,} objects or {MOST_VALUES:,} values")


def _below(where: str, key: object) -> str:
    return f"{where}.{key}"[-80:].lstrip(".")


def _require_fitting(values: list[Any], name: str, where: str) -> None:
    """Raise SearchError for a long list of a type that filters do not have: each item would be an error."""
    kinds = {type(value) for value in values} if len(values) > LONG else set()
    key = where.rpartition(".")[2]
    if len(kinds) > 1 or not kinds <= ({int, str} if key in SCALARS else {dict} if key in OBJECTS else set()):
        raise SearchError(
            f"{name} is no Qdrant filter",
            where=where,
            got=f"a list of {len(values):,}: {', '.join(sorted(kind.__name__ for kind in kinds))}",
            expected="a list of texts or of whole numbers" if key in SCALARS else "no such list",
        )


def _require_conditions(value: Mapping[str, Any], name: str, where: str) -> None:
    """Raise SearchError if a list of conditions contains anything else."""
    for key in CLAUSES & value.keys():
        for number, own in enumerate(value[key]) if isinstance(value[key], list) else ():
            if not isinstance(own, Mapping):
                raise SearchError(
                    f"{name} is no Qdrant filter",
                    where=_below(where, f"{key}.{number}"),
                    got=shown(own),
                    expected="an object",
                )


def _too_much(name: str, where: str, got: str) -> SearchError:
    return SearchError(
        f"{name} is too large", where=where, got=got, do="split it, or store the condition as a payload key"
    )
