"""Makes sure that a document and its point id can lie in any store: JSON values, valid Unicode, finite numbers."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.errors import DocumentError
from diptych.types import Document

_LARGEST = 2**64 - 1


def plain_document(document: Document) -> Document:
    """The document with metadata of JSON values only: dates and UUIDs as text, numpy numbers as numbers.

    Raises:
        DocumentError: metadata that is no JSON, a number that is not finite, or text that is not valid Unicode.
    """
    metadata = document.metadata
    if not isinstance(metadata, Mapping):
        raise DocumentError("metadata is not a mapping", got=type(metadata).__name__)
    for key in metadata:
        if not isinstance(key, str):
            raise DocumentError("a key of the metadata is not text", got=repr(key))
    try:
        written = json.dumps([document.id, document.text, document.title, metadata], **_STRICT, default=_plain)
        written.encode()
    except UnicodeEncodeError as error:
        raise DocumentError("text that is not valid Unicode", got=repr(_faulty(error))) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise DocumentError("metadata is not JSON", got=str(error)) from error
    return document if not metadata else replace(document, metadata=json.loads(written)[3])


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
        raise DocumentError(
            "a plugin chose a point id that Qdrant does not take", got=repr(chosen), expected="unsigned integer or UUID"
        ) from None


def _faulty(error: UnicodeEncodeError) -> str:
    return error.object[error.start : error.end]


_STRICT: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False}


def _plain(value: object) -> object:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")
