"""Reads documents from data frames, and returns hits or runs as columns. Only `to_pandas` imports a data frame library.

A frame is a table of pandas, polars, pyarrow or narwhals, or a mapping of columns: `{"id": [...], "text": [...]}`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np

from diptych.errors import MissingExtra, PopulateError
from diptych.types import Document, Hit, Query, Run

Columns: TypeAlias = dict[str, list[Any]]
ROWS = 4096  # that are taken out of the frame at a time
_IDS, _TEXT, _TITLE = ("id", "_id"), "text", "title"
_HIT = ("rank", "id", "score", "title", "text")
_FIXED = ("query", *_HIT)


class Frame(Protocol):
    """A table of a data frame library, as far as type checkers need it."""

    @property
    def columns(self) -> Any:
        """Its columns, or their names."""
        ...

    def __getitem__(self, name: Any) -> Any: ...


def is_frame(found: object) -> TypeGuard[Frame]:
    """Whether this is a table of a data frame library, by the protocols that the libraries share."""
    return hasattr(found, "__dataframe__") or hasattr(found, "__arrow_c_stream__")


def documents(
    frame: Any,
    *,
    id: str | None = None,
    text: str | None = None,
    title: str | None = None,
    metadata: Sequence[str] | None = None,
) -> Iterator[Document]:
    """The rows as documents, which populate checks like any others.

    A missing cell (None, NaN, NaT, NA) is an empty title or text, and no key of the metadata.

    Args:
        frame: see the module; it is read as it is gone through, some rows at a time.
        id: column of the ids; `id` or `_id` unless given. Whole numbers are taken as their digits.
        text: column of the texts; `text` unless given, needed where there is no title.
        title: column of the titles; `title`, if there is one, unless given.
        metadata: columns of the metadata; all others unless given.

    Raises:
        PopulateError: no frame, no such column, a column twice, or one whose name is not text.
    """
    listed = list(frame) if isinstance(frame, Mapping) else getattr(frame, "column_names", None)
    names = [] if hasattr(frame, "collect") else list(getattr(frame, "columns", ()) if listed is None else listed)
    if not names:
        do = "collect it first: frame.collect()" if hasattr(frame, "collect") else ""
        expected = "a table of pandas, polars, pyarrow or narwhals, or a mapping of columns"
        raise PopulateError("not a data frame with columns", got=type(frame).__name__, expected=expected, do=do)
    for name in names:
        if not isinstance(name, str) or names.count(name) > 1:
            what = "a column's name is not text" if not isinstance(name, str) else "two columns have the same name"
            raise PopulateError(what, where="data frame", got=repr(name), do="rename it")
    key = _column(id, _IDS, names, "id")
    body = _column(text, (_TEXT,), names, "text", needed=title is None and _TITLE not in names)
    head = _column(title, (_TITLE,), names, "title", needed=False)
    used = {name for name in (key, body, head) if name is not None}
    metadata_names = [name for name in names if name not in used] if metadata is None else list(metadata)
    for name in metadata_names:
        _column(name, (), names, "metadata")
    columns = [name for name in dict.fromkeys([key, body, head, *metadata_names]) if name is not None]
    return (_document(row, key, body, head, metadata_names) for row in _rows(frame, columns))


def hits(found: Sequence[Hit]) -> Columns:
    """The hits of one query as columns, for `pandas.DataFrame(...)` or `polars.DataFrame(..., strict=False)`.

    `rank` from 1, `id`, `score`, `score.STAGE` for each stage that tells one, `title`, `text`, and a column for each
    key of the metadata; a key that is called like one of these has `metadata.` before it. What a hit lacks is None.
    """
    return _table(_hit_row(rank, hit) for rank, hit in enumerate(found, 1))


def answers(queries: Sequence[str | Query], found: Sequence[Sequence[Hit]]) -> Columns:
    """`hits` of many queries below each other, with a leading column `query`: the query's id or its text.

    Raises:
        ValueError: not one list of hits for each query.
    """
    pairs = zip(queries, found, strict=True)
    rows = (
        {"query": query if isinstance(query, str) else query.id or query.text, **_hit_row(rank, hit)}
        for query, query_hits in pairs
        for rank, hit in enumerate(query_hits, 1)
    )
    return _table(rows, _FIXED)


def run(found: Run) -> Columns:
    """A run as columns: `query`, `rank` from 1, `id`, `score`; for each query its documents, best first."""
    rows = (
        {"query": query, "rank": rank, "id": identifier, "score": score}
        for query, ranking in found.rankings.items()
        for rank, (identifier, score) in enumerate(ranking, 1)
    )
    return _table(rows, ("query", "rank", "id", "score"))


def to_pandas(
    found: Run | Sequence[Hit] | Sequence[Sequence[Hit]], queries: Sequence[str | Query] | None = None
) -> Any:
    """A `pandas.DataFrame` of a run, of the hits of one query, or of the hits of many `queries`.

    Args:
        found: a `Run`, what `search` returned, or with `queries` what `search_batch` returned for them.
        queries: the queries of several lists of hits.

    Raises:
        MissingExtra: pandas is not installed.
        ValueError: not one list of hits for each query.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("a data frame of pandas needs pandas", do="pip install pandas") from error
    if isinstance(found, Run):
        return pd.DataFrame(run(found))
    return pd.DataFrame(hits(found) if queries is None else answers(queries, found))  # type: ignore[arg-type]


def _document(row: Mapping[str, Any], key: Any, body: Any, head: Any, metadata_names: Sequence[str]) -> Document:
    present = {name: cell for name, cell in row.items() if not _is_missing(cell)}
    metadata = {name: present[name] for name in metadata_names if name in present}
    return Document(_id_of(present.get(key)), present.get(body, ""), present.get(head, ""), metadata)


def _id_of(cell: Any) -> Any:
    """The id as text. A value that cannot be an id stays as it is, and populate rejects the document."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        cell = int(cell)  # pandas turns integers into floats where one of them is missing
    if isinstance(cell, int | np.integer) and not isinstance(cell, bool):
        return str(int(cell))
    return "" if cell is None else cell


def _is_missing(cell: Any) -> bool:
    if cell is None:
        return True
    if isinstance(cell, str | bytes | int | Mapping | list | tuple | np.ndarray):
        return False
    try:
        return bool(cell != cell)  # NaN and NaT are not equal to themselves
    except TypeError:
        return True  # NA of pandas is neither equal nor unequal to anything


def _column(given: str | None, usual: Sequence[str], names: list[str], what: str, *, needed: bool = True) -> str | None:
    """The column of this name, or None where it is optional and missing."""
    found = given if given is not None else next((name for name in usual if name in names), None)
    if found is not None and found in names:
        return found
    if found is None and not needed:
        return None
    near = difflib.get_close_matches(found or "", names, n=1)
    raise PopulateError(
        f"the frame has no column {found!r}" if found is not None else f"the frame has no {what} column",
        where="data frame",
        got=", ".join(names),
        expected=found or " or ".join(usual),
        do=f"did you mean {near[0]!r}?"
        if near
        else f"name it: frames.documents(frame, {what}=...); reset_index() makes a column of pandas' index",
    )


def _rows(frame: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    columns = {name: frame[name] for name in names}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise PopulateError("the columns differ in length", where="data frame", got=lengths, expected="as many each")
    for start in range(0, next(iter(lengths.values())), ROWS):
        cells = [_cells(column, start, start + ROWS) for column in columns.values()]
        for row in zip(*cells, strict=True):
            yield dict(zip(names, row, strict=True))


def _cells(column: Any, start: int, stop: int) -> list[Any]:
    """Some cells of a column as Python values, for any of the libraries."""
    if hasattr(column, "iloc"):
        return list(column.iloc[start:stop].tolist())
    part = column[start:stop]
    if isinstance(part, np.ndarray) and part.dtype.kind == "M":
        part = part.astype("datetime64[us]")  # finer ones become integers
    for name in ("to_list", "tolist", "to_pylist"):
        if (listed := getattr(part, name, None)) is not None:
            return list(listed())
    return list(part)


def _hit_row(rank: int, hit: Hit) -> dict[str, Any]:
    document = hit.document
    stages = {f"score.{name}": score for name, score in hit.stages.items()}
    metadata = {
        f"metadata.{key}" if key in _FIXED or key.startswith(("score.", "metadata.")) else key: value
        for key, value in document.metadata.items()
    }
    own = {"rank": rank, "id": hit.id, "score": hit.score}
    return {**own, **stages, "title": document.title, "text": document.text, **metadata}


def _table(rows: Iterable[Mapping[str, Any]], fixed: Sequence[str] = _HIT) -> Columns:
    listed = list(rows)
    names = sorted(dict.fromkeys([*fixed, *(name for row in listed for name in row)]), key=_group)
    return {name: [row.get(name) for row in listed] for name in names}


def _group(name: str) -> int:
    """Sort key of a column: position, then stage scores, then texts, then metadata."""
    if name in _FIXED:
        return 0 if name not in (_TITLE, _TEXT) else 2
    return 1 if name.startswith("score.") else 3
