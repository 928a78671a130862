"""`--filter` and `--where`: which documents count."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diptych.errors import SearchError

if TYPE_CHECKING:
    from qdrant_client import models


def parse_filter(text: str | None, where: Sequence[str]) -> models.Filter | None:
    """`--filter` and all of `--where` as one Qdrant filter, None when there is neither.

    Raises:
        SearchError: the JSON is no filter, or a `--where` is not KEY=VALUE.
    """
    if text is None and not where:
        return None
    from qdrant_client import models

    from diptych.search.filters import read_filter

    given = [read_filter(text, name="--filter")] if text is not None else []
    return models.Filter(must=[*given, *map(_condition, where)])


def _condition(text: str) -> models.FieldCondition:
    """`KEY=VALUE` as Qdrant compares it: fractions as a range, since its matches know text, integers and truth only."""
    from qdrant_client import models

    key, value = _pair(text)
    if isinstance(value, float):
        return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?")  # JSON's, short of infinity


def _pair(text: str) -> tuple[str, str | int | float | bool]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SearchError("--where is not KEY=VALUE", got=text, expected="such as section=mail")
    typed = value in ("true", "false") or _NUMBER.fullmatch(value)
    return key, json.loads(value) if typed else value
