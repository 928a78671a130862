"""`Qrels`: which documents answer which query, and how well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from diptych.errors import EvaluationError, brief
from diptych.evaluate._lines import numbered_lines, place

_HIGHEST = 1_000_000  # trec_eval keeps grades in C's long, and its gains grow with them


@dataclass(frozen=True, slots=True)
class Qrels:
    """Graded relevance judgements: `{query id: {document id: grade}}`. A grade of 1 or more is relevant."""

    judgements: Mapping[str, Mapping[str, int]]
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse grades that trec_eval, which is written in C, cannot hold."""
        for query, found in self.judgements.items():
            for document, grade in found.items():
                if isinstance(grade, int) and abs(grade) > _HIGHEST:
                    where, expected = f"query {query!r}, document {document!r}", f"at most {_HIGHEST:,}"
                    raise EvaluationError("a grade is too high", where=where, got=brief(grade), expected=expected)

    @classmethod
    def read(cls, path: str | Path) -> Qrels:
        """From a BEIR file (`query-id`, `corpus-id`, `score`, tabs, a header) or a TREC file (four columns, none).

        Either may be gzipped. Grades are integers; repeated equal lines count once.

        Raises:
            EvaluationError: the file cannot be read, a line is malformed (its number is named), one document has two
                grades for one query, or there is no judgement at all.
        """
        path = Path(path)
        judgements: dict[str, dict[str, int]] = {}
        for number, (query, document, grade) in _rows(path):
            found = judgements.setdefault(query, {}).setdefault(document, grade)
            if found != grade:
                raise EvaluationError(
                    f"query {query!r} judges document {document!r} twice, differently",
                    where=place(path, number),
                    got=f"{grade} after {found}",
                )
        if not judgements:
            raise EvaluationError("there are no judgements", where=path, expected="BEIR or TREC qrels")
        return cls(judgements, str(path))

    @property
    def queries(self) -> tuple[str, ...]:
        """Ids of the judged queries, in the order of the file."""
        return tuple(self.judgements)

    @property
    def without_relevant(self) -> tuple[str, ...]:
        """Ids of judged queries that have no relevant document: no ranking can score above 0 on them."""
        return tuple(query for query in self.judgements if not self.relevant(query))

    def relevant(self, query: str, *, grade: int = 1) -> frozenset[str]:
        """Ids of the documents that answer `query` with at least `grade`."""
        return frozenset(document for document, found in self.judgements.get(query, {}).items() if found >= grade)

    def restricted(self, queries: Iterable[str]) -> Qrels:
        """The judgements of `queries` only."""
        wanted = set(queries)
        return Qrels({query: found for query, found in self.judgements.items() if query in wanted}, self.source)

    def __len__(self) -> int:
        return len(self.judgements)


def _rows(path: Path) -> Iterator[tuple[int, tuple[str, str, int]]]:
    """`(line number, (query, document, grade))`; the first line decides on the form and may be a header."""
    width = 0
    for number, line in numbered_lines(path):
        fields = _fields(line, width)
        if not width:
            width = len(fields)
            if width == 3 and fields[2].lower() == "score":
                continue
        yield number, _judgement(fields, width, place(path, number))


def _fields(line: str, width: int) -> list[str]:
    """BEIR's columns are parted by tabs, so that ids may hold spaces; TREC's by any white space."""
    tabbed = [field.strip() for field in line.split("\t")]
    return tabbed if len(tabbed) == 3 and width != 4 else line.split()


def _judgement(fields: list[str], width: int, where: str) -> tuple[str, str, int]:
    if width not in (3, 4) or len(fields) != width or not all(fields):
        raise EvaluationError(
            "a line is not a judgement",
            where=where,
            got=f"{len([field for field in fields if field])} columns",
            expected=f"{width} columns, as the first line has" if width in (3, 4) else "3 (BEIR) or 4 (TREC) columns",
        )
    query, document, text = fields[0], fields[-2], fields[-1]
    try:
        grade = int(text)
    except ValueError as error:
        got = repr(text)[:80]
        raise EvaluationError("a grade is not an integer", where=where, got=got, expected="0, 1, 2, ...") from error
    if abs(grade) > _HIGHEST:
        raise EvaluationError("a grade is too high", where=where, got=text[:80], expected=f"at most {_HIGHEST:,}")
    return query, document, grade
