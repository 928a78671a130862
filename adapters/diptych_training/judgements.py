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
    """Judgements beside the queries and the documents that they are of.

    Args:
        grades: as they were read, by query and document.
        queries: texts by id.
        documents: texts by id; one without a text is not learned from.
    """

    grades: Grades
    queries: Mapping[str, str]
    documents: Mapping[str, str]

    def kept(self) -> dict[str, dict[str, float]]:
        """Judgements whose query and document exist; queries without a relevant document are left out."""
        there = {query: self._present(own) for query, own in self.grades.items() if query in self.queries}
        return {query: own for query, own in there.items() if any(grade > 0 for grade in own.values())}

    def left_out(self, names: Names) -> str | None:
        """How many judgements name a missing query or document, and which, as text; None if none does."""
        pairs = [(query, document) for query, own in self.grades.items() for document in own]
        lost = [pair for pair in pairs if pair[0] not in self.queries or not self.documents.get(pair[1])]
        if not lost:
            return None
        queries = [query for query, _ in lost if query not in self.queries]
        others = [document for query, document in lost if query in self.queries]
        causes = (
            _counted(queries, "query is", "queries are", f"not in {names.queries}"),
            _counted((d for d in others if d not in self.documents), *_DOCUMENTS, f"not in {names.documents}"),
            _counted((d for d in others if d in self.documents), *_DOCUMENTS, "without text"),
        )
        why = ", ".join(filter(None, causes))
        return f"{len(lost):,} of {len(pairs):,} {names.judgements} left out: {why}"

    def apart(self, names: Names) -> str:
        """Why no judgement has an existing query and document, as text, with an id of each side."""
        documents = [document for own in self.grades.values() for document in own]
        sides = (
            _apart("query", self.grades, names.qrels, self.queries, names.queries),
            _apart("document", documents, names.qrels, self.documents, names.documents),
        )
        return "".join(f"; {side}" for side in sides if side)

    def _present(self, own: Mapping[str, float]) -> dict[str, float]:
        return {document: grade for document, grade in own.items() if self.documents.get(document)}


def first_of(ids: Iterable[str]) -> str:
    """The first of some ids as text, each once."""
    found = list(dict.fromkeys(ids))
    return ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")


def _counted(ids: Iterable[str], one: str, more: str, where: str) -> str:
    found = list(dict.fromkeys(ids))
    return f"{len(found):,} {one if len(found) == 1 else more} {where} ({first_of(found)})" if found else ""


def _apart(what: str, judged: Iterable[str], qrels: str, there: Mapping[str, str], place: str) -> str:
    found: Sequence[str] = list(judged)
    if not found or not there or any(one in there for one in found):
        return ""
    return f"no {what} of {qrels} (such as {found[0]!r}) is in {place} (which has {next(iter(there))!r})"
