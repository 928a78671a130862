"""Qdrant's filters as JSON, read with errors that say what is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from qdrant_client import models

from diptych.config.wording import expectation, place
from diptych.config.wording import found as found_there
from diptych.errors import SearchError
from diptych.json_faults import first_fault

MOST_VALUES = 100_000  # keys and values of a filter, ids included
_HINT = """write JSON such as {"must": [{"key": "section", "match": {"value": "mail"}}]}"""


def read_filter(filter: str | Mapping[str, Any], *, name: str = "filter") -> models.Filter:
    """The filter that JSON text, or what was read from it, describes.

    Args:
        filter: as Qdrant's REST interface takes it.
        name: how an error calls it.

    Raises:
        SearchError: it is none.
    """
    if not isinstance(filter, str | Mapping):
        raise SearchError(f"{name} is no Qdrant filter", got=type(filter).__name__, expected="an object", do=_HINT)
    try:
        if isinstance(filter, str):
            found = models.Filter.model_validate_json(filter)
        else:
            require_usable(filter, name)
            found = models.Filter.model_validate(dict(filter))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SearchError(
            f"{name} is no Qdrant filter",
            where=place(first),
            got=found_there(first),
            expected=expectation(first, mapping="an object"),
            do=_HINT,
        ) from error
    require_usable(found, name)
    return found


def require_usable(filter: models.Filter | Mapping[str, Any], name: str = "filter") -> None:
    """Raise SearchError for what no store can compare with: numbers beyond 64 bits, text that is no Unicode."""
    fault = first_fault(filter, most=MOST_VALUES, plain=False)
    if fault is not None:
        where = ".".join(map(str, fault.at))
        raise SearchError(f"{name} cannot be used: {fault.what}", where=where, got=fault.got, expected=fault.expected)
