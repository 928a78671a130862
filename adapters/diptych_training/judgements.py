"""`Judged`: judgements whose queries and documents exist, and a description of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Grades: TypeAlias = Mapping[str, Mapping[str, float]]
SHOWN = 5
_DOCUMENTS = ("document", "documents")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of files and fields in messages about judgements.

    Args:
        queries, documents, qrels: where each is read from.
        judgements: what the lines of `qrels` are.
    """

    queries: str = "the queries"
    documents: str = "the corpus"
    qrels: str = "the qrels"
    judgements: str = "judgements"


@dataclass(frozen=True, slots=True)
class Judged:
    """Judgements with the queries and documents that they refer to.

    Args:
        grades: as they were read, by query and document.
        queries: texts by id.
        documents: texts by id; one without a text is not learned from.
    """

    grades: Grades
    queries: Mapping[str, str]
    documents: Mapping[str, str]

    def usable(self) -> dict[str, dict[str, float]]:
        """Judgements whose query and document exist; queries without a relevant document are left out."""
        present = {query: self._present(grades) for query, grades in self.grades.items() if query in self.queries}
        return {query: grades for query, grades in present.items() if any(grade > 0 for grade in grades.values())}

    def left_out(self, names: Names) -> str | None:
        """How many judgements name a missing query or document, and which, as text; None if none does."""
        pairs = [(query, document) for query, grades in self.grades.items() for document in grades]
        unusable = [pair for pair in pairs if pair[0] not in self.queries or not self.documents.get(pair[1])]
        if not unusable:
            return None
        queries = [query for query, _ in unusable if query not in self.queries]
        documents = [document for query, document in unusable if query in self.queries]
        causes = (
            _counted(queries, "query is", "queries are", f"not in {names.queries}"),
            _counted((d for d in documents if d not in self.documents), *_DOCUMENTS, f"not in {names.documents}"),
            _counted((d for d in documents if d in self.documents), *_DOCUMENTS, "without text"),
        )
        why = ", ".join(filter(None, causes))
        return f"{len(unusable):,} of {len(pairs):,} {names.judgements} left out: {why}"

    def mismatch(self, names: Names) -> str:
        """Why no judgement has an existing query and document, as text, with an id of each side."""
        documents = [document for grades in self.grades.values() for document in grades]
        sides = (
            _mismatch("query", self.grades, names.qrels, self.queries, names.queries),
            _mismatch("document", documents, names.qrels, self.documents, names.documents),
        )
        return "".join(f"; {side}" for side in sides if side)

    def _present(self, grades: Mapping[str, float]) -> dict[str, float]:
        return {document: grade for document, grade in grades.items() if self.documents.get(document)}


def first_of(ids: Iterable[str]) -> str:
    """The first of some ids as text, each once."""
    names = list(dict.fromkeys(ids))
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _counted(ids: Iterable[str], singular: str, plural: str, where: str) -> str:
    names = list(dict.fromkeys(ids))
    return f"{len(names):,} {singular if len(names) == 1 else plural} {where} ({first_of(names)})" if names else ""


def _mismatch(what: str, judged: Iterable[str], qrels: str, present: Mapping[str, str], place: str) -> str:
    names: Sequence[str] = list(judged)
    if not names or not present or any(name in present for name in names):
        return ""
    return f"no {what} of {qrels} (such as {names[0]!r}) is in {place} (which has {next(iter(present))!r})"
