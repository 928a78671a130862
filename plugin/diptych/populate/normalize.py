"""Makes sure that a document and its point id can lie in any store: JSON values that Qdrant keeps as they are."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.errors import DocumentError, brief
from diptych.types import Document

DEEPEST = 64  # levels of metadata; Edge cannot read its own log again beyond 125, and then the collection is lost
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # integers beyond would silently become floats


def plain_document(document: Document) -> Document:
    """The document with metadata of JSON values only: dates and UUIDs as text, numpy's and decimal numbers as numbers.

    Raises:
        DocumentError: metadata that is no JSON or that Qdrant would change, or text that is not valid Unicode.
    """
    if not isinstance(document.metadata, dict | Mapping):
        raise DocumentError("metadata is not a mapping", got=type(document.metadata).__name__)
    if not (document.id.isascii() and document.text.isascii() and document.title.isascii()):
        for text in (document.id, document.text, document.title):
            _require_unicode(text)
    return replace(document, metadata=_mapping(document.metadata, 0)) if document.metadata else document


def checked_point_id(chosen: object) -> int | str:
    """A plugin's point id in the form in which stores give it back.

    Raises:
        DocumentError: it is neither an unsigned 64-bit integer nor a UUID.
    """
    if isinstance(chosen, int) and not isinstance(chosen, bool) and 0 <= chosen <= _LARGEST:
        return chosen
    try:
        return str(uuid.UUID(str(chosen)))
    except ValueError:
        what, expected = "a plugin chose a point id that Qdrant does not take", "unsigned integer or UUID"
        raise DocumentError(what, got=brief(chosen), expected=expected) from None


def _value(value: object, level: int) -> Any:
    if level > DEEPEST:
        raise DocumentError("metadata is nested too deep", expected=f"at most {DEEPEST} levels")
    if value is None or isinstance(value, bool):
        return value
    for kind, convert in _CONVERSIONS:
        if isinstance(value, kind):
            return convert(value, level)
    raise DocumentError("metadata is not JSON", got=type(value).__name__)


def _mapping(found: Mapping[Any, Any], level: int) -> dict[str, Any]:
    for key in found:
        if not isinstance(key, str):
            raise DocumentError("a key of the metadata is not text", got=brief(key))
        _require_unicode(key)
    return {key: _value(value, level + 1) for key, value in found.items()}


def _integer(found: int, level: int) -> int:
    if not _SMALLEST <= found <= _LARGEST:
        raise DocumentError("an integer of the metadata is beyond 64 bits", got=brief(found))
    return found


def _number(found: float, level: int) -> float:
    if not math.isfinite(found):
        raise DocumentError("a number of the metadata is not finite", got=found)
    return float(found)


def _require_unicode(found: str, level: int = 0) -> str:
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise DocumentError("text that is not valid Unicode", got=repr(found[error.start : error.end])) from error
    return found


_CONVERSIONS: tuple[tuple[Any, Callable[[Any, int], Any]], ...] = (
    (str, _require_unicode),
    (int, _integer),
    (float, _number),
    (Mapping, _mapping),
    (list | tuple, lambda found, level: [_value(value, level + 1) for value in found]),
    (datetime.date | datetime.time, lambda found, level: found.isoformat()),
    (uuid.UUID, lambda found, level: str(found)),
    (decimal.Decimal, lambda found, level: _number(float(found) if found.is_finite() else math.nan, level)),
    (np.generic, lambda found, level: _value(found.item(), level + 1)),
    (np.ndarray, lambda found, level: _value(found.tolist(), level)),
)
