"""`Judgements`: a folder that records who graded which document for which query, and when.

`judgements.jsonl` is appended to, a line for each event, and never rewritten:

    {"query": "q1", "pool": ["sox", "lame"], "judge": "anna", "time": "2026-11-28T09:00:00+00:00"}
    {"query": "q1", "document": "sox", "grade": 3, "judge": "anna", "time": "..."}          null: skipped
    {"query": "q1", "document": "sox", "undo": true, "judge": "anna", "time": "..."}
    {"judge": "chat gpt", "model": true, "agreement": {"kappa": 0.71, "pairs": 60, "accepted": true}, "time": "..."}

`queries.jsonl` and `qrels/test.tsv` are made from it in BEIR's form, which `diptych evaluate` reads. `manifest.json`
names the collections whose documents are judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from diptych.errors import EvaluationError, brief
from diptych.evaluate import Qrels
from diptych.types import Query
from diptych_lab.judge.judgement_files import (
    HIGHEST,
    LOG,
    QRELS,
    QUERIES,
    append_line,
    events_of,
    is_grade,
    note_collections,
    require_collections,
    stored_queries,
    storing,
    write_beir,
    write_queries,
)

Pair: TypeAlias = tuple[str, str]  # ids of a query and of a document
Grade: TypeAlias = int | None  # None: the judge skipped it


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a model agrees with people, by quadratic kappa, and whether its grades count (`accepted`)."""

    kappa: float
    pairs: int
    accepted: bool = True


@dataclass
class Judgements:
    """The judgements of one folder, which is made by the first judgement.

    Args:
        folder: of `judgements.jsonl`, `queries.jsonl` and `qrels/test.tsv`; None keeps the judgements in memory.

    `grades` has each judge's grades by pair, in the order of judging; `pools` the documents that were pooled together,
    by query; `models` the measured agreement of each judge that is a model.

    Raises:
        EvaluationError: the folder is a file, the log cannot be read, or has a line that is not an event.
    """

    folder: Path | None
    grades: dict[str, dict[Pair, Grade]] = field(default_factory=dict, init=False)
    pools: dict[str, list[frozenset[str]]] = field(default_factory=dict, init=False)
    models: dict[str, Agreement] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Read the log; an incomplete last line, left by a killed process, is removed."""
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            where = f"{self.folder}"
            raise EvaluationError("judgements cannot be stored there", where=where, got="a file", expected="a folder")
        self.reload()

    def reload(self) -> None:
        """Read the log again, to which other processes may have added."""
        if self.folder is None:
            return
        for known in (self.grades, self.pools, self.models):
            known.clear()
        for event in events_of(self.folder):
            self._apply(event)

    def add(self, query: str, document: str, grade: Grade, *, judge: str) -> None:
        """Append a grade from 0 to 3, or None for a document that the judge skips.

        Raises:
            EvaluationError: another grade.
        """
        if not is_grade(grade):
            raise EvaluationError("unknown grade", got=brief(grade), expected=f"0 to {HIGHEST}, or None to skip")
        self._append({"query": query, "document": document, "grade": grade, "judge": judge})

    def undo(self, *, judge: str) -> Pair | None:
        """Undo the judge's last grade; return its pair, or None if there is none."""
        pair = self.last(judge)
        if pair is not None:
            self._append({"query": pair[0], "document": pair[1], "undo": True, "judge": judge})
        return pair

    def last(self, judge: str) -> Pair | None:
        """The pair that the judge graded last, which `undo` would undo; None if there is none."""
        return next(reversed(self.grades.get(judge, {})), None)

    def pool(self, query: str, documents: Iterable[str], *, judge: str) -> None:
        """Note which documents are judged together; a query counts once one of its pools is judged completely."""
        pooled = frozenset(documents)
        if pooled not in self.pools.get(query, []):
            self._append({"query": query, "pool": sorted(pooled), "judge": judge})

    def measured(self, judge: str, agreement: Agreement) -> None:
        """Note how well a model agrees with people, and whether its grades count from now on."""
        facts = {"kappa": agreement.kappa, "pairs": agreement.pairs, "accepted": agreement.accepted}
        self._append({"judge": judge, "model": True, "agreement": facts})

    def people(self) -> list[str]:
        """The judges that are not models."""
        return [judge for judge in self.grades if judge not in self.models]

    def is_judged(self, query: str, document: str) -> bool:
        """Whether somebody whose grades count has graded or skipped the document."""
        return any((query, document) in self.grades[judge] for judge in self._counting())

    def grade(self, query: str, document: str) -> Grade:
        """The grade that counts: the median of people's (of two the lower), else an accepted model's, else None."""
        pair = (query, document)
        for judges in (self.people(), [name for name, agreement in self.models.items() if agreement.accepted]):
            grades = sorted(g for judge in judges if (g := self.grades.get(judge, {}).get(pair)) is not None)
            if grades:
                return grades[(len(grades) - 1) // 2]
            if any(pair in self.grades.get(judge, {}) for judge in judges):
                return None
        return None

    def qrels(self) -> Qrels:
        """The grades of the queries that were judged completely."""
        whole = [
            query
            for query, pools in self.pools.items()
            if any(pool and all(self.is_judged(query, name) for name in pool) for pool in pools)
        ]
        pairs: dict[Pair, None] = {pair: None for judge in self._counting() for pair in self.grades[judge]}
        grades_of: dict[str, dict[str, int]] = {query: {} for query in whole}
        for query, document in pairs:
            grade = self.grade(query, document)
            if query in grades_of and grade is not None:
                grades_of[query][document] = grade
        source = str(self.folder / QRELS) if self.folder else ""
        return Qrels({query: grades for query, grades in grades_of.items() if grades}, source)

    def queries(self) -> list[Query]:
        """The texts of the queries that were saved."""
        return stored_queries(self.folder / QUERIES) if self.folder else []

    def require_same(self, queries: Iterable[Query]) -> None:
        """Raise EvaluationError if an id of these queries has another text here: grades of two would be mixed."""
        known = {query.id: query for query in self.queries()}
        for query in queries:
            other = known.get(query.id)
            if other is not None and (other.text, other.media) != (query.text, query.media):
                raise EvaluationError(
                    f"query {query.id!r} has another text in these judgements",
                    where=f"{self.folder}",
                    got=brief(query.text),
                    expected=brief(other.text),
                    do="judge these queries in another folder, or give them other ids",
                )

    def require_collections(self, names: Sequence[str]) -> None:
        """Raise EvaluationError if the judgements are of other collections: documents are known by their ids alone."""
        if self.folder is not None:
            require_collections(self.folder, names)

    def note_collections(self, names: Sequence[str]) -> None:
        """Note that documents of these collections are judged.

        Raises:
            EvaluationError: the judgements are of other collections, or the note cannot be read or written.
        """
        if self.folder is not None:
            note_collections(self.folder, names)

    def note(self, queries: Sequence[Query]) -> None:
        """Write the texts of queries that are about to be judged to `queries.jsonl`, besides those that it has.

        Raises:
            EvaluationError: one has another text there, or they cannot be written.
        """
        self.require_same(queries)
        known = {query.id for query in self.queries()}
        if self.folder is not None and not known.issuperset(query.id for query in queries):
            with storing(self.folder):
                write_queries(self.folder, [*self.queries(), *queries])

    def save(self, queries: Sequence[Query]) -> Qrels:
        """Write `qrels/test.tsv`, and `queries.jsonl` with these queries and those saved before.

        Raises:
            EvaluationError: they cannot be written.
        """
        self.reload()
        qrels = self.qrels()
        if self.folder is None:
            return qrels
        with storing(self.folder):
            if qrels.judgements:
                write_beir(self.folder, [*self.queries(), *queries], qrels)
            else:  # the last one may have been undone
                (self.folder / QRELS).unlink(missing_ok=True)
        return qrels

    def _counting(self) -> list[str]:
        return [judge for judge in self.grades if judge not in self.models or self.models[judge].accepted]

    def _append(self, event: dict[str, Any]) -> None:
        event = {**event, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        if self.folder is not None:
            with storing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                append_line(self.folder / LOG, json.dumps(event, ensure_ascii=False) + "\n")
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        judge = event["judge"]
        if "agreement" in event:
            self.models[judge] = Agreement(**event["agreement"])
        elif "pool" in event:
            self.pools.setdefault(event["query"], []).append(frozenset(event["pool"]))
        else:
            pair, grades = (event["query"], event["document"]), self.grades.setdefault(judge, {})
            grades.pop(pair, None)
            if not event.get("undo"):
                grades[pair] = event["grade"]
