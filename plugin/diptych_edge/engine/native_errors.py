"""Edge's bare exceptions as errors of this package."""

from __future__ import annotations

import re
from collections.abc import Callable

from diptych.errors import CollectionError, DiptychError, SearchError, StoreError
from diptych.runtime.panics import contained

PANICKED = "Qdrant Edge panicked"
REPAIR = "open the collection again; if it recurs: diptych doctor --repair"

Build = Callable[[re.Match[str], str, bool], DiptychError]

# The rest of such a text may quote what the caller wrote, so single words tell nothing.
_INTERNAL = re.compile(r"(?i)\bio error|os error \d|service internal error|out of memory|no space left|corrupted")
_DAMAGED = re.compile(r"(?i)deserialize|decode|corrupt|unexpected end|io error|internal error")
_CALLERS = (ValueError, TypeError, OverflowError)  # of Edge's own reading of what it is given


class edge_errors:  # noqa: N801  # see `contained`
    """Within the block, Edge's exceptions become errors of this package."""

    __slots__ = ("_collection", "_reading")

    def __init__(self, collection: str, *, reading: bool) -> None:
        self._collection, self._reading = collection, reading

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, raw: BaseException | None, __: object) -> None:
        if raw is None or isinstance(raw, DiptychError):
            return
        with contained(StoreError, PANICKED, where=f"collection {self._collection!r}", do=REPAIR):
            if not isinstance(raw, Exception):
                raise raw
        raise explain(raw, self._collection, reading=self._reading) from raw


def explain(raw: BaseException, collection: str, *, reading: bool) -> DiptychError:
    """The error for Edge's `raw` exception in a search (`reading`) or a write."""
    text = str(raw)
    for pattern, build in _MEANINGS:
        if match := re.search(pattern, text):
            return build(match, f"collection {collection!r}", reading)
    where = f"collection {collection!r}"
    if reading and (isinstance(raw, _CALLERS) or not _INTERNAL.search(text)):
        do = "fix the filter, the vector or the parameters"
        return SearchError("Qdrant Edge refuses the search", where=where, got=reason(raw), do=do)
    do = REPAIR if _DAMAGED.search(text) else ""
    return StoreError("Qdrant Edge refused the operation", where=where, got=reason(raw), do=do)


def reason(raw: BaseException) -> str:
    """The informative line of Edge's text, which may list everything it has tried."""
    lines = [line for line in str(raw).splitlines() if not line.startswith("while processing")]
    return lines[-1].rpartition("caused by ")[2] if lines else type(raw).__name__


def _kind(reading: bool) -> type[DiptychError]:
    return SearchError if reading else CollectionError


def _dimension(match: re.Match[str], where: str, reading: bool) -> DiptychError:
    return _kind(reading)("a vector has the wrong dimension", where=where, got=match[2], expected=match[1])


def _unknown_vector(match: re.Match[str], where: str, reading: bool) -> DiptychError:
    name = match[1].strip()
    do = "see get_collection(...).config.params" + ("" if name else "; name the vector with `using`")
    what = f"the collection has no vector {name!r}" if name else "the collection has no unnamed vector"
    return _kind(reading)(what, where=where, do=do)


def _wrong_kind(match: re.Match[str], where: str, reading: bool) -> DiptychError:
    return _kind(reading)(f"a {match[1]} vector where another kind is expected, or the reverse", where=where)


def _no_point(match: re.Match[str], where: str, reading: bool) -> DiptychError:
    return _kind(reading)(f"there is no point {match[1]}", where=where)


def _bad_id(match: re.Match[str], where: str, reading: bool) -> DiptychError:
    return _kind(reading)(
        "not a point id", where=where, got=match[1] or "another type", expected="an integer from 0, or a UUID"
    )


def _no_index(match: re.Match[str], where: str, reading: bool) -> DiptychError:
    return SearchError(
        "a payload index is missing", where=where, got=match[0], do="create it with create_payload_index"
    )


_MEANINGS: tuple[tuple[str, Build], ...] = (
    (r"expected dim: (\d+), got (\d+)", _dimension),
    (r"Not existing vector name error: ?(.*)", _unknown_vector),
    (r"Wrong usage of (sparse|multi) vectors", _wrong_kind),
    (r"No point with id (\S+)", _no_point),
    (r"failed to parse ((?:(?!failed ).)*?) as UUID", _bad_id),
    (r"NumId \| Uuid()", _bad_id),
    (r"No (?:range|appropriate) index for (?:(?!No ).)*?`\.", _no_index),
    (r"BM25 requires a text index.*", _no_index),
)
