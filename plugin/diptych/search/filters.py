"""Qdrant's filters as JSON, read with errors that say what is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from qdrant_client import models

from diptych.config.wording import expectation, found, place
from diptych.errors import SearchError

_HINT = """write JSON such as {"must": [{"key": "section", "match": {"value": "mail"}}]}"""


def read_filter(filter: str | Mapping[str, Any], *, name: str = "filter") -> models.Filter:
    """The filter that JSON text, or what was read from it, describes.

    Args:
        filter: as Qdrant's REST interface takes it.
        name: how an error calls it.

    Raises:
        SearchError: it is none.
    """
    try:
        if isinstance(filter, str):
            return models.Filter.model_validate_json(filter)
        return models.Filter.model_validate(dict(filter))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SearchError(
            f"{name} is no Qdrant filter",
            where=place(first),
            got=found(first),
            expected=expectation(first, mapping="an object"),
            do=_HINT,
        ) from error
