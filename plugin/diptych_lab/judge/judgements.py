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

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from diptych.errors import EvaluationError, brief
from diptych.evaluate import Qrels
from diptych.runtime.untrusted import plain_file
from diptych.runtime.validation_messages import actual_value, error_path, expectation
from diptych.types import Query

HIGHEST = 3  # grade: 0 not relevant, 1 related, 2 relevant, 3 exactly what was asked for
LOG, QUERIES, QRELS, MANIFEST = "judgements.jsonl", "queries.jsonl", "qrels/test.tsv", "manifest.json"

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

    def require_collections(self, names: Sequence[str]) -> list[str] | None:
        """Raise EvaluationError if the judgements are of other collections, or their note cannot be read.

        Judgements know documents by their ids alone, so one of the collections must be noted. A folder without the
        note, as older versions leave it, may be of any. Returns the names that are noted.
        """
        known = noted_collections(self.folder) if self.folder is not None else None
        if self.folder is not None and known is not None and not set(known) & set(names):
            raise EvaluationError(
                "these judgements are of another collection, whose documents may have the same ids",
                where=self.folder / MANIFEST,
                got=", ".join(names),
                expected=" or ".join(known),
                do="judge in another folder; if both collections hold the same documents, add the name to the file",
            )
        return known

    def note_collections(self, names: Sequence[str]) -> None:
        """Note that documents of these collections are judged, beside those that are noted already.

        Raises:
            EvaluationError: as `require_collections`, or the note cannot be written.
        """
        known = self.require_collections(names)
        noted = list(dict.fromkeys([*(known or ()), *names]))
        if self.folder is None or noted == known:
            return
        with storing(self.folder):
            text = json.dumps({"collections": noted}, ensure_ascii=False) + "\n"
            if known is not None:
                _write(self.folder / MANIFEST, text)
            elif not _create(self.folder / MANIFEST, text):
                self.note_collections(names)  # another process was faster

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


class _Event(BaseModel, strict=True):
    """A line of the log, beside its time."""

    judge: str


class _Measured(_Event):
    agreement: Agreement


class _Pooled(_Event):
    query: str
    pool: list[str]


class _Undone(_Event):
    query: str
    document: str
    undo: Literal[True]


class _Graded(_Event):
    query: str
    document: str
    grade: Annotated[int, Field(ge=0, le=HIGHEST)] | None


_KINDS: Mapping[str, type[_Event]] = {"agreement": _Measured, "pool": _Pooled, "undo": _Undone}


def events_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The events of a folder's log, each checked: people edit it by hand.

    Raises:
        EvaluationError: the log cannot be read, or has a line that is not an event.
    """
    for number, line in enumerate(whole_lines(folder / LOG), 1):
        try:
            raw = json.loads(line)
            kind = next((own for name, own in _KINDS.items() if name in raw), _Graded)
            yield kind.model_validate_json(line).model_dump()
        except (ValueError, TypeError, RecursionError) as error:
            got, expected = line[:80], "an event as diptych judge writes it"
            if isinstance(error, ValidationError) and (first := error.errors(include_url=False)[0])["loc"]:
                got, expected = f"{error_path(first)}: {actual_value(first)}", expectation(first)
            do = "fix the line, or remove it: then the judge is asked again"
            where = f"{folder / LOG}, line {number}"
            raise EvaluationError("not a judgement", where=where, got=got, expected=expected, do=do) from error


def is_grade(value: object) -> bool:
    """Whether it is a grade: an integer from 0 to 3, or None for a skipped document."""
    return value is None or (type(value) is int and 0 <= value <= HIGHEST)


def noted_collections(folder: Path) -> list[str] | None:
    """The names of the collections whose documents were judged; None in a folder without the note.

    Raises:
        EvaluationError: the note cannot be read.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    with storing(folder), open(path, encoding="utf-8", errors="replace", opener=plain_file) as file:
        text = file.read()
    try:
        names = json.loads(text)["collections"]
    except (ValueError, KeyError, TypeError, RecursionError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        do = "fix it, or remove it: the next judging writes it again"
        expected = '{"collections": ["NAME"]}'
        what = "the note of the judged collection cannot be read"
        raise EvaluationError(what, where=path, got=brief(text), expected=expected, do=do)
    return names


def write_beir(folder: Path, queries: Sequence[Query], qrels: Qrels) -> None:
    """Write `queries.jsonl` and `qrels/test.tsv`; of queries with the same id the last counts."""
    write_queries(folder, queries)
    rows = (f"{q}\t{d}\t{grade}\n" for q, grades in qrels.judgements.items() for d, grade in grades.items())
    _write(folder / QRELS, "query-id\tcorpus-id\tscore\n" + "".join(rows))


def write_queries(folder: Path, queries: Sequence[Query]) -> None:
    """Write `queries.jsonl`; of queries with the same id the last counts."""
    lines = {}
    for query in queries:
        facts: dict[str, Any] = {"metadata": dict(query.metadata)} if query.metadata else {}
        facts |= {"media": dict(query.media)} if query.media else {}
        lines[query.id] = json.dumps({"_id": query.id, "text": query.text, **facts}, ensure_ascii=False) + "\n"
    _write(folder / QUERIES, "".join(lines.values()))


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Raise EvaluationError for errors of the file system."""
    try:
        yield
    except OSError as error:
        got, do = error.strerror or type(error).__name__, "make room and let this user write there, then grade it again"
        raise EvaluationError("the judgements cannot be stored", where=folder, got=got, do=do) from error


def append_line(path: Path, line: str) -> None:
    """Append a line in one call, so that processes do not mix theirs; of a failed one nothing stays."""
    with open(path, "ab", buffering=0, opener=plain_file) as stream:
        size, data = os.fstat(stream.fileno()).st_size, line.encode("utf-8", "surrogatepass")
        try:
            if stream.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            stream.truncate(size)
            raise


def whole_lines(path: Path) -> list[str]:
    """The lines of the log. A last line that a kill left incomplete is cut off the file; one of an editor is ended."""
    if not os.path.lexists(path):
        return []
    with storing(path.parent):
        with open(path, "rb", opener=plain_file) as log:
            data = log.read()
        whole, _, rest = data.rpartition(b"\n")
        is_json = False
        with suppress(ValueError, RecursionError):
            is_json = isinstance(json.loads(rest), dict)
        if is_json:
            append_line(path, "\n")
            whole = data
        elif rest:
            with open(path, "r+b", opener=plain_file) as stream:
                stream.truncate(len(data) - len(rest))
    return [line for line in whole.decode("utf-8", "replace").split("\n") if line.strip()]


def stored_queries(path: Path) -> list[Query]:
    """The queries of a file; none if it does not exist."""
    from diptych.evaluate import read_queries

    return read_queries(path) if path.exists() else []


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    _beside(path, text).replace(path)


def _create(path: Path, text: str) -> bool:
    """Write a file whole, unless there is one already; returns whether it was written."""
    beside = _beside(path, text)
    try:
        os.link(beside, path)  # unlike a rename, it replaces nothing
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return True


def _beside(path: Path, text: str) -> Path:
    """A file of this process with the text, in the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == Path(QRELS).name and path.parent.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path.parent))
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(beside, "w", encoding="utf-8", opener=plain_file) as stream:
        stream.write(text)
    return beside
