"""Edge's bare exceptions as errors of this package."""

from __future__ import annotations

import re

from diptych.errors import CollectionError, DiptychError, SearchError, StoreError
from diptych.runtime.panics import contained

PANICKED = "Qdrant Edge panicked"
REPAIR = "open the collection again; if it recurs: diptych doctor --repair"

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
    text, where = str(raw), f"collection {collection!r}"
    for pattern, what, parts in _MEANINGS:
        if match := re.search(pattern, text):
            kind = SearchError if reading or "index" in what else CollectionError
            return kind(match.expand(what), where=where, **{name: match.expand(part) for name, part in parts.items()})
    if reading and (isinstance(raw, _CALLERS) or not _INTERNAL.search(text)):
        do = "fix the filter, the vector or the parameters"
        return SearchError("Qdrant Edge refuses the search", where=where, got=reason(raw), do=do)
    do = REPAIR if _DAMAGED.search(text) else ""
    return StoreError("Qdrant Edge refused the operation", where=where, got=reason(raw), do=do)


def reason(raw: BaseException) -> str:
    """The informative line of Edge's text, which may list everything it has tried."""
    lines = [line for line in str(raw).splitlines() if not line.startswith("while processing")]
    return lines[-1].rpartition("caused by ")[2] if lines else type(raw).__name__


_ID = "an integer from 0, or a UUID"
_INDEX = {"got": r"\g<0>", "do": "create it with create_payload_index"}
_MEANINGS: tuple[tuple[str, str, dict[str, str]], ...] = (  # patterns of Edge's texts, and what they say of ours
    (r"expected dim: (\d+), got (\d+)", "a vector has the wrong dimension", {"got": r"\2", "expected": r"\1"}),
    (
        r"Not existing vector name error: *\Z",
        "the collection has no unnamed vector",
        {"do": "see get_collection(...).config.params; name the vector with `using`"},
    ),
    (
        r"Not existing vector name error: ?(.*)",
        r"the collection has no vector '\1'",
        {"do": "see get_collection(...).config.params"},
    ),
    (
        r"Wrong usage of (sparse|multi) vectors",
        r"a \1 vector where another kind is expected, or the reverse",
        {},
    ),
    (r"No point with id (\S+)", r"there is no point \1", {}),
    (r"failed to parse ((?:(?!failed ).)*?) as UUID", "not a point id", {"got": r"\1", "expected": _ID}),
    (r"NumId \| Uuid", "not a point id", {"got": "another type", "expected": _ID}),
    (r"No (?:range|appropriate) index for (?:(?!No ).)*?`\.", "a payload index is missing", _INDEX),
    (r"BM25 requires a text index.*", "a payload index is missing", _INDEX),
)
