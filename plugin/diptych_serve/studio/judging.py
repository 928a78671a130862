"""`JudgingSessions`: pairs of query and document to grade, blind to the side that found them, saved at every grade.

A session is one judge's work on one comparison. Its runs are made by a job; after that it only reads and writes the
folder of judgements, so the same request goes on after a restart, and other judges may grade the same pairs meanwhile.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych import Collection
from diptych.errors import EvaluationError
from diptych.evaluate import cutoff
from diptych.types import Query, said
from diptych_lab.judge import Judgements, Judging, Pooled
from diptych_lab.judge.judgements import LOG, Grade, Pair
from diptych_serve.service.admission import Refused
from diptych_serve.studio.answers import JudgedQuery, JudgingAnswer, PooledDocument
from diptych_serve.studio.display import document_fields
from diptych_serve.studio.evaluations import ASKING, asked, names_of
from diptych_serve.studio.jobs import Job, Jobs
from diptych_serve.studio.sides import Side

LIVES = 3600.0  # seconds that a session is kept after it was last asked for
MOST = 64  # sessions at once
METRIC = "nDCG@10"  # its cutoff is also how deep the sides are pooled
NAME, READ = 100, 20_000  # characters of a judge's name, and of a text that a judge sees


@dataclass(slots=True)
class Session:
    """One judge's work on a comparison: `job` makes the runs, then `judging` is there.

    Args:
        collection: whose documents are judged.
        sides: two; the first is the baseline.
        queries: those that may be judged.
        who: the judge.
        complete: go on when the comparison is settled, until everything is judged.
        tenant: whose documents are searched, in collections with tenants.
    """

    collection: Collection
    sides: tuple[Side, ...]
    queries: tuple[Query, ...]
    who: str
    complete: bool = False
    tenant: str | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    asked: float = field(default_factory=time.monotonic)
    job: Job | None = None
    judging: Judging | None = None

    def __post_init__(self) -> None:
        """Raise EvaluationError for what cannot be judged, before anything is asked."""
        names_of(self.sides)
        if not self.queries:
            raise EvaluationError("no queries to judge", got="none", expected="at least one query")
        if not self.who or len(self.who) > NAME or not self.who.isprintable():
            expected = f"1 to {NAME} printable characters"
            raise EvaluationError("a judge needs a name", got=repr(self.who[:NAME]), expected=expected)


class JudgingSessions:
    """The sessions of a service, all of which write to one folder.

    Args:
        folder: of the judgements; see `diptych_lab.judge.Judgements`.
        jobs: make the runs.
    """

    def __init__(self, folder: Path, jobs: Jobs) -> None:
        self._folder, self._jobs = folder, jobs
        self._sessions: dict[str, Session] = {}
        self._judgements: Judgements | None = None
        self._size = -1  # of the log, when it was last read or written here
        self._lock = threading.RLock()

    def start(self, session: Session) -> Session:
        """Begin a session, or go on with what the folder holds of it.

        Raises:
            EvaluationError: the folder cannot be read, or the judge's name is that of a model.
            Refused: too many jobs wait already.
        """
        with self._lock:
            judgements = self._read()
            if session.who in judgements.models:
                do = "judge under another name"
                raise EvaluationError("this is the name of a model that judges", got=session.who, do=do)
            judgements.note_collections([session.collection.name])
            judgements.note(session.queries)
            now = time.monotonic()  # sessions that nobody asks for go; what was graded is saved
            kept = sorted(self._sessions.values(), key=lambda own: own.asked)[-(MOST - 1) :]
            self._sessions = {own.id: own for own in kept if now - own.asked < LIVES}
            session.job = self._jobs.start("judging", lambda job: self._prepare(session, job))
            self._sessions[session.id] = session
            return session

    def session(self, id: str) -> Session:
        """The session of this id, which is now asked for.

        Raises:
            Refused: there is none, or it was too long ago.
        """
        session = self._sessions.get(id)
        if session is None:
            message = f"there is no judging session {id[:40]!r}\n  do: start it again; what was graded is saved"
            raise Refused(404, message, code="no_such_session")
        session.asked = time.monotonic()
        if session.job is not None:
            session.job.touch()
        return session

    def described(self, session: Session, *, first: Pair | None = None) -> JudgingAnswer:
        """What the judge sees now: the progress of the preparation, the next pair, or the verdict.

        Args:
            session: whose.
            first: a pair of it that is shown before all others.
        """
        judging = session.judging
        if judging is None:
            assert session.job is not None, "a session that is started has a job"
            job = self._jobs.described(session.job)
            kept = job.model_dump(include={"state", "sentence", "done", "error"})
            return JudgingAnswer(id=session.id, total=job.total or 0, **kept)
        with self._lock:
            self._renew(judging)
            pair = judging.next()
            with suppress(EvaluationError):  # an undone pair may be of an earlier session
                pair = judging.pair(*first) if first else pair
            self._size = self._length()
            (done, total), verdict = judging.pairs, judging.verdict()
        facts: dict[str, Any] = {"id": session.id, "settled": verdict.is_settled, "done": done, "total": total}
        if pair is not None:  # which side is ahead would tempt a judge, so only the count is said
            counted = verdict.sentence.splitlines()[0]
            query = JudgedQuery(id=pair.query.id, text=said(pair.query), number=pair.number, of=len(judging.queries))
            document = self._shown(session, pair)
            return JudgingAnswer(**facts, state="judging", verdict=counted, query=query, document=document)
        state: Any = "settled" if verdict.is_settled else "finished"
        return JudgingAnswer(**facts, state=state, verdict=verdict.sentence, folder=str(self._folder))

    def record(self, session: Session, query: str, document: str, grade: Grade) -> None:
        """Save a grade, 0 to 3, or None for a pair that the judge skips.

        Raises:
            EvaluationError: this is no pair of the session, or the grade cannot be saved.
            Refused: the session is not prepared yet.
        """
        judging = _ready(session)
        with self._lock:
            self._renew(judging)
            judging.record(judging.pair(query, document), grade)
            self._size = self._length()
            if not judging.pair(query, document).left:
                self._save(session)

    def undo(self, session: Session) -> Pair | None:
        """Undo the judge's last grade, even one of an earlier session; its pair, or None if there is none.

        Raises:
            EvaluationError: it cannot be saved.
            Refused: the session is not prepared yet.
        """
        judging = _ready(session)
        with self._lock:
            self._renew(judging)
            pair = judging.judgements.last(judging.judge)
            if judging.undo():
                self._save(session)
            return pair

    def _prepare(self, session: Session, job: Job) -> None:
        """Ask all sides; the answers are pooled."""
        queries, sides = session.queries, session.sides
        job.begin(ASKING, len(queries) * len(sides))
        runs = asked(sides, queries, job, depth=cutoff(METRIC) or 0, tenant=session.tenant)
        with self._lock:
            options: dict[str, Any] = {"metric": METRIC, "complete": session.complete}
            session.judging = Judging(runs, queries, self._read(), judge=session.who, **options)

    def _shown(self, session: Session, pair: Pooled) -> PooledDocument:
        """The document of a pair as the page shows it, without which side found it and at which rank."""
        found = session.collection.get([pair.document], tenant=session.tenant)
        if not found:
            return PooledDocument(id=pair.document, left=pair.left)
        fields = document_fields(found[0], session.collection.name, tenant=session.tenant, window=slice(READ))
        kept = {name: fields[name] for name in ("id", "name", "title", "text", "thumbnail")}
        return PooledDocument(**kept, left=pair.left)

    def _read(self) -> Judgements:
        """The folder's judgements, which all sessions share."""
        if self._judgements is None:
            self._judgements = Judgements(self._folder)
            self._size = self._length()
        return self._judgements

    def _renew(self, judging: Judging) -> None:
        """Read what other processes wrote, and what other judges did here."""
        if self._length() != self._size:
            judging.judgements.reload()
            self._size = self._length()
        judging.forget()

    def _save(self, session: Session) -> None:
        """Write the qrels, in which queries count that are judged completely."""
        self._read().save(session.queries)
        self._size = self._length()

    def _length(self) -> int:
        path = self._folder / LOG
        return path.stat().st_size if path.exists() else 0


def typed_queries(texts: Sequence[str]) -> tuple[Query, ...]:
    """Queries that a judge typed, each once, with ids that are the same for the same words."""
    known = {text.strip(): None for text in texts if text.strip()}
    return tuple(Query(text, f"typed-{hashlib.sha256(text.encode()).hexdigest()[:12]}") for text in known)


def _ready(session: Session) -> Judging:
    if session.judging is None:
        message = "the queries are still running\n  do: wait until the first document is shown"
        raise Refused(409, message, code="not_ready")
    return session.judging
