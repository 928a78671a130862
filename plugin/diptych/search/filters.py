"""Filters: Qdrant's own as JSON or mappings, and `where`, a short form; and which of their keys no document has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import Any, TypeAlias

import orjson
from pydantic import ValidationError
from qdrant_client import models

from diptych.errors import SearchError
from diptych.handle.view import Memo, View, narrowed, scope_of
from diptych.metadata.payloads import quoted
from diptych.runtime.validation_messages import actual_value, error_path, expectation, first_fault, nearest, shown
from diptych.search.store_calls import read_store
from diptych.stores.nodes import search_deadline
from diptych.types import Document

LOG = logging.getLogger(__name__)
SELDOM = 60.0  # seconds between two warnings of the same key
PAUSE = 1.0  # seconds between two checks of any keys; a check costs a search
KEYS = 16  # keys of a filter that are checked, at most
MOST_KEYS = 1000  # keys that are remembered
SAMPLED = 100  # documents whose keys are proposed
FEW = 8  # keys that a warning names

FilterLike: TypeAlias = models.Filter | Mapping[str, Any]
Where: TypeAlias = Mapping[str, Any]

_HINT = 'write JSON such as {"must": [{"key": "section", "match": {"value": "mail"}}]}'
_BOUNDS = ("gt", "gte", "lt", "lte")
_EXACT_IN_A_FLOAT = 2**53
_VALUES = 'text, a number, True or False; a list of them; or bounds such as {"gte": 1990, "lt": 2000}'
DEEPEST = 40  # nested objects and lists
MOST_OBJECTS = 2_000  # conditions and their parts
MOST_VALUES = 100_000  # keys and values, ids included
CLAUSES = {"must", "should", "must_not", "conditions"}
LONG = 100  # items from which on a list's types are checked before pydantic reads it
SCALARS = {"any", "except", "has_id"}  # keys whose long lists hold scalars
OBJECTS = {*CLAUSES, "points", "interiors"}  # keys whose long lists hold objects


def combined(filter: FilterLike | None, where: Where | None = None) -> models.Filter | None:
    """Qdrant's filter for documents that match `filter` and all of `where`; None without either.

    Args:
        filter: Qdrant's own, or the mapping that its REST interface takes.
        where: by payload key (nested keys with dots) a value, a list of values of which one must match, or a mapping
            of bounds, `gt`, `gte`, `lt`, `lte`, for numbers and for times.

    Raises:
        SearchError: one of them cannot be used.
    """
    if filter is not None and not isinstance(filter, models.Filter):
        if not isinstance(filter, Mapping):
            raise SearchError(
                "unknown type of filter",
                got=type(filter).__name__,
                expected="qdrant_client.models.Filter, or a mapping such as its JSON",
            )
        filter = read_filter(filter, short='where={"section": "mail"}')
    elif filter is not None:
        require_usable(filter)
    if where is None:
        return filter
    if not isinstance(where, Mapping):
        raise SearchError("unknown type of where", got=type(where).__name__, expected='a mapping: {"section": "mail"}')
    made = models.Filter(must=[_condition(key, value) for key, value in where.items()])
    require_usable(made, "where")
    return made if filter is None else models.Filter(must=[filter, *made.must])  # type: ignore[misc]


def equals(key: str, value: str | int | float | bool) -> list[models.FieldCondition]:
    """Conditions of which one holds if a payload key has this value.

    Qdrant's matches know text, integers and booleans only, and 3 does not match 3.0; a range compares as floats.
    """
    found = []
    if isinstance(value, str | int):
        found.append(models.FieldCondition(key=key, match=models.MatchValue(value=value)))
    if not isinstance(value, str | bool) and (isinstance(value, float) or abs(value) <= _EXACT_IN_A_FLOAT):
        found.append(models.FieldCondition(key=key, range=models.Range(gte=value, lte=value)))
    return found


def _condition(key: object, value: object) -> models.FieldCondition | models.Filter:
    if not isinstance(key, str) or not key:
        raise SearchError("a key of where is not usable", got=repr(key), expected="the name of a payload key")
    if isinstance(value, Mapping):
        return _range(key, value)
    values: list[Any] = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if not values or not all(isinstance(one, str | int | float) for one in values):
        raise _unusable(key, value, _VALUES)
    try:
        found = [condition for one in values for condition in equals(key, one)]
    except ValidationError as error:  # text that is no Unicode
        raise _unusable(key, value, _VALUES) from error
    return found[0] if len(found) == 1 else models.Filter(should=found)


def _range(key: str, bounds: Mapping[Any, Any]) -> models.FieldCondition:
    if not bounds or any(name not in _BOUNDS for name in bounds):
        raise _unusable(key, dict(bounds), f"bounds: {', '.join(_BOUNDS)}")
    numbers = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds.values())
    if not numbers and not all(isinstance(bound, str | date | datetime) for bound in bounds.values()):
        raise _unusable(key, dict(bounds), "numbers, or times as text or datetime")
    try:
        return models.FieldCondition(
            key=key, range=models.Range(**bounds) if numbers else models.DatetimeRange(**bounds)
        )
    except ValidationError as error:
        raise _unusable(key, dict(bounds), "times such as 2026-11-27T12:00:00Z") from error


def _unusable(key: str, value: object, expected: str) -> SearchError:
    return SearchError("a value of where is not usable", where=f"key {key!r}", got=repr(value)[:200], expected=expected)


def read_filter(filter: str | Mapping[str, Any], *, name: str = "filter", short: str = "") -> models.Filter:
    """The filter that JSON text, or the parsed JSON, describes.

    Args:
        filter: in the form of Qdrant's REST interface.
        name: the filter's name in errors.
        short: what errors advise instead of JSON, where the caller has a shorter form.

    Raises:
        SearchError: it is not a filter, or too large or deep.
    """
    hint = f"{_HINT}, or in short, {short}" if short else _HINT
    try:
        given = orjson.loads(filter) if isinstance(filter, str) else filter
    except orjson.JSONDecodeError as error:
        what, got = f"{name} is not a Qdrant filter", shown(str(filter))
        raise SearchError(what, got=got, expected=f"JSON: {error}", do=hint) from error
    require_small(given, name=name)
    require_usable(given, name)
    try:
        return models.Filter.model_validate(dict(given) if isinstance(given, Mapping) else given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SearchError(
            f"{name} is not a Qdrant filter",
            where=error_path(first),
            got=actual_value(first),
            expected=expectation(first, mapping="an object"),
            do=hint,
        ) from error


def require_usable(filter: object, name: str = "filter") -> None:
    """Raise SearchError for values that no store can compare: numbers beyond 64 bits, invalid Unicode."""
    fault = first_fault(filter, limit=MOST_VALUES, plain=False)
    if fault is not None:
        where = ".".join(map(str, fault.at))
        raise SearchError(f"{name} cannot be used: {fault.what}", where=where, got=fault.got, expected=fault.expected)


def require_small(filter: object, *, name: str = "filter") -> None:
    """Raise SearchError for a filter that is too large or deep, or has values that no store accepts.

    pydantic tries each value as every kind of condition and lists all failures, so this check runs first.
    """
    objects, values, nodes = 0, 0, [(filter, 0, "")]
    what = f"{name} is not a Qdrant filter"

    def below(where: str, key: object) -> str:
        return f"{where}.{key}"[-80:].lstrip(".")

    while nodes:
        value, depth, where = nodes.pop()
        if isinstance(value, Mapping):
            objects += 1
            for key in CLAUSES & value.keys():
                for number, condition in enumerate(value[key]) if isinstance(value[key], list) else ():
                    if not isinstance(condition, Mapping):
                        place = below(where, f"{key}.{number}")
                        raise SearchError(what, where=place, got=shown(condition), expected="an object")
            nodes += [(child, depth + 1, below(where, key)) for key, child in value.items()]
        elif isinstance(value, list):
            # Each item of a long list of a type that filters do not have would be an error of its own.
            kinds = {type(item) for item in value} if len(value) > LONG else set()
            key = where.rpartition(".")[2]
            if len(kinds) > 1 or not kinds <= ({int, str} if key in SCALARS else {dict} if key in OBJECTS else set()):
                got = f"a list of {len(value):,}: {', '.join(sorted(kind.__name__ for kind in kinds))}"
                expected = "a list of texts or of whole numbers" if key in SCALARS else "no such list"
                raise SearchError(what, where=where, got=got, expected=expected)
            nodes += [(child, depth + 1, where) for child in value]
        else:
            values += 1
        got = f"more than {DEEPEST} objects and lists within one another" if depth > DEEPEST else ""
        if objects > MOST_OBJECTS or values + len(nodes) > MOST_VALUES:
            got = f"more than {MOST_OBJECTS:,} objects or {MOST_VALUES:,} values"
        if got:
            do = "split it, or store the condition as a payload key"
            raise SearchError(f"{name} is too large", where=where, got=got, do=do)


def missing_keys(
    view: View,
    filter: models.Filter | None,
    *,
    tenant: str | None = None,
    group_by: str | None = None,
    skip: Callable[[str], bool] = lambda key: False,
) -> dict[str, str]:
    """The keys that no document has, or none of the tenant's, each with a sentence that proposes others.

    Each key takes a request, which ends at the first document that has it.

    Args:
        view: the collection's.
        filter: whose first `KEYS` keys are looked for.
        tenant: whose documents are searched.
        group_by: the key by which hits are grouped, which is looked for, too; not where there is no document at all.
        skip: says of a key that it is not looked for.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
        StoreUnavailable, StoreError: the store does not answer, or fails.
    """
    scope = scope_of(view, tenant)
    named = [*(_some_keys(filter) if filter is not None else ()), *([group_by] if group_by is not None else ())]

    def is_there(key: str) -> bool:
        field = models.PayloadField(key=quoted(key) if key == group_by else key)
        with_key = models.Filter(must_not=[models.IsEmptyCondition(is_empty=field)])
        return bool(view.client.scroll(view.name, narrowed(scope, with_key), limit=1, with_payload=False)[0])

    def read() -> tuple[list[str], list[Document]]:
        missing = [key for key in dict.fromkeys(named) if not skip(key) and not is_there(key)]
        fields = view.metadata_fields
        some = view.client.scroll(view.name, scope, limit=SAMPLED, with_payload=fields)[0] if missing else []
        return missing, [view.layout.read(record.id, record.payload) for record in some]

    missing, documents = read_store(view, read)
    known = list(dict.fromkeys(quoted(view.layout.field(name)) for found in documents for name in found.metadata))
    sentences = {}
    for key in missing if documents else [key for key in missing if key != group_by]:
        plain = key.replace("[].", ".")
        last = [name for name in known if name.rpartition(".")[2] == plain]  # beneath the key of a program's metadata
        proposal = f"did you mean {last[0]!r}?" if last else nearest(plain, known)
        if known and not proposal:
            proposal = f"there are {', '.join(known[:FEW])}{' and others' if len(known) > FEW else ''}"
        reason = f"no document has {key!r}, which the filter asks for"
        if key == group_by:
            reason = f"no document has {key!r}, by which hits are grouped"
        sentences[key] = f"{reason}: {proposal}" if proposal else reason
    return sentences


def warn_of_missing_keys(
    view: View, filter: models.Filter | None, *, tenant: str | None, group_by: str | None = None
) -> None:
    """Log a warning for each of the `missing_keys`. Call it if a search found nothing.

    It checks at most once a second, and warns of a key at most once a minute.
    """
    now, logged = time.monotonic(), logged_keys(view)
    if (filter is None and group_by is None) or now - logged.get(None, (-PAUSE, ""))[0] < PAUSE:
        return
    if len(logged) > MOST_KEYS:
        logged.clear()
    logged[None] = now, ""

    is_known = lambda key: now - logged.get((tenant, key), (-SELDOM, ""))[0] < SELDOM  # noqa: E731
    try:
        with search_deadline(view.client):
            missing = missing_keys(view, filter, tenant=tenant, group_by=group_by, skip=is_known)
    except Exception:  # the search was answered; the next call reports a store that has failed since
        return
    for key, problem in missing.items():
        logged[tenant, key] = now, problem
        LOG.warning("collection %r: %s", view.name, problem)


def logged_warnings(view: View, filter: models.Filter, *, tenant: str | None) -> list[str]:
    """What was logged of the filter's keys within the last minute. Makes no call to the store."""
    now, logged = time.monotonic(), logged_keys(view)
    found = [logged.get((tenant, key), (-SELDOM, "")) for key in _some_keys(filter)]
    return [problem for at, problem in found if now - at < SELDOM]


@Memo
def logged_keys(view: View) -> dict[tuple[str | None, str] | None, tuple[float, str]]:
    """When a key was found missing and what was logged, by tenant and key; under None the time of the last check."""
    return {}


def _some_keys(filter: models.Filter) -> list[str]:
    return list(dict.fromkeys(_keys(filter, "")))[:KEYS]


def _keys(filter: models.Filter, prefix: str) -> Iterator[str]:
    least = filter.min_should.conditions if filter.min_should else None
    for conditions in (filter.must, filter.should, filter.must_not, least):
        for condition in conditions if isinstance(conditions, list) else [conditions]:
            match condition:
                case models.FieldCondition() if condition.is_empty is None and condition.is_null is None:
                    yield f"{prefix}{condition.key}"
                case models.NestedCondition(nested=nested):
                    yield from _keys(nested.filter, f"{prefix}{nested.key.removesuffix('[]')}[].")
                case models.Filter():
                    yield from _keys(condition, prefix)
