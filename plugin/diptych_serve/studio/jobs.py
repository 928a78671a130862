"""`Jobs`: work that takes longer than a request, one at a time, with its progress; it ends when nobody asks for it."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from diptych.runtime.panics import as_error, is_panic
from diptych_serve.service.admission import Refused, refusal_of
from diptych_serve.service.answers import ErrorDetail
from diptych_serve.studio.answers import JobAnswer, JobKind, JobState

PATIENCE = 30.0  # seconds after which a job that nobody asks for is cancelled: the page was closed
WAITING = 8  # jobs that may wait
KEPT = 16  # finished jobs whose results are kept

Work: TypeAlias = "Callable[[Job], Any]"


class JobCancelled(Exception):
    """Ends the work of a job that was cancelled, or that nobody asks for any more."""


class Job:
    """One piece of work, and a `diptych.runtime.phases.Progress` for it: both of its methods end a cancelled job.

    Args:
        kind: what it does, such as `evaluate`.
        work: is given the job, and returns the result.
        patience: seconds that it lives after it was last asked for.

    `result` is what the work returned, `error` what it raised; None before. `done` and `total` count the steps of the
    stage that it is in.
    """

    def __init__(self, kind: JobKind, work: Work, *, patience: float = PATIENCE) -> None:
        self.id, self.kind = secrets.token_urlsafe(12), kind
        self.state: JobState = "waiting"
        self.stage, self.done = "", 0
        self.total: int | None = None
        self.result: Any = None
        self.error: Refused | None = None
        self._work, self._patience = work, patience
        self._cancelled, self._asked, self._began = threading.Event(), time.monotonic(), 0.0
        self._lock = threading.Lock()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state not in ("waiting", "running")

    @property
    def is_wanted(self) -> bool:
        """Whether it was neither cancelled nor forgotten."""
        return not self._cancelled.is_set() and time.monotonic() - self._asked < self._patience

    def touch(self) -> None:
        """Note that somebody asks for it."""
        self._asked = time.monotonic()

    def cancel(self) -> None:
        """End it at the next step of its progress."""
        self._cancelled.set()
        with self._lock:
            if self.state == "waiting":
                self.state = "cancelled"

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts.

        Raises:
            JobCancelled: nobody wants it any more.
        """
        self.require_wanted()
        with self._lock:  # otherwise a reader could see the steps of one stage with the name of another
            self.stage, self.done, self.total, self._began = stage, 0, total, time.monotonic()

    def advance(self, stage: str, n: int) -> None:
        """`n` more steps of the stage are done; raises as `begin`."""
        self.require_wanted()
        if stage == self.stage:
            self.done += n

    def require_wanted(self) -> None:
        """Raise JobCancelled if nobody wants it any more."""
        if not self.is_wanted:
            raise JobCancelled

    def run(self) -> None:
        """Do the work in this thread, unless it was cancelled before; whatever it raises is kept."""
        with self._lock:
            if self.is_over or not self.is_wanted:
                self.state = "cancelled"
                return
            self.state = "running"
        state: JobState = "failed"
        try:
            self.result = self._work(self)
            state = "done"
        except JobCancelled:
            state = "cancelled"
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            self.error = refusal_of(as_error(error))
        finally:
            self.state = state

    def sentence(self, before: int) -> str:
        """How far it is, in words; `before` is the number of jobs that end before it begins."""
        if self.state == "waiting":
            jobs = "1 job is" if before == 1 else f"{before} jobs are"
            return f"waiting: {jobs} before this one" if before else "about to begin"
        if self.state != "running":
            return self.state
        count = f", {self.done:,} of {self.total:,}" if self.total else ""
        return f"{self.stage or 'beginning'}{count}"


class Jobs:
    """Runs jobs one after another in a thread of their own, so that searches keep the other threads and the memory.

    Args:
        patience: seconds that a job lives after it was last asked for.
        waiting: how many may wait.
        kept: how many finished ones are kept.
    """

    def __init__(self, *, patience: float = PATIENCE, waiting: int = WAITING, kept: int = KEPT) -> None:
        self._patience, self._waiting, self._kept = patience, waiting, kept
        self._jobs: dict[str, Job] = {}
        self._lock, self._stopped = threading.Lock(), False
        self._pool = ThreadPoolExecutor(1, "diptych-studio")

    def start(self, kind: JobKind, work: Work) -> Job:
        """Begin a job, or let it wait.

        Args:
            kind: what it does.
            work: is given the job, tells it the progress, and returns the result.

        Raises:
            Refused: too many wait already, or the service ends.
        """
        job = Job(kind, work, patience=self._patience)
        with self._lock:
            if self._stopped:
                raise Refused(503, "the service ends\n  do: start it again once the service is back", code="ending")
            waiting = [other for other in self._jobs.values() if other.state == "waiting" and other.is_wanted]
            if len(waiting) >= self._waiting:
                message = f"{len(waiting)} jobs are waiting\n  do: cancel one, or try again later"
                raise Refused(429, message, code="rate_limit_exceeded", headers={"Retry-After": "5"})
            over = [other.id for other in self._jobs.values() if other.is_over]
            for id in over[: max(0, len(over) - self._kept + 1)]:  # the oldest beyond those that are kept
                del self._jobs[id]
            self._jobs[job.id] = job
            self._pool.submit(job.run)
        return job

    def job(self, id: str) -> Job:
        """The job of this id, which is now asked for.

        Raises:
            Refused: there is none, or it was too long ago.
        """
        job = self._jobs.get(id)
        if job is None:
            message = f"no job is called {id[:40]!r}\n  do: start it again; only the last {self._kept} results are kept"
            raise Refused(404, message, code="no_such_job")
        job.touch()
        return job

    def described(self, job: Job) -> JobAnswer:
        """How far a job is, with its place among those that wait."""
        with self._lock:
            others = list(self._jobs.values())
        before = others[: others.index(job)] if job in others else []
        left: int | None = None
        if job.state == "running" and (done := job.done) and (total := job.total):
            passed = time.monotonic() - job._began
            left = math.ceil(max(0.0, passed / done * (total - done)))
        return JobAnswer(
            id=job.id,
            kind=job.kind,
            state=job.state,
            sentence=job.sentence(sum(not other.is_over for other in before)),
            done=job.done,
            total=job.total,
            seconds_left=left,
            result=job.result if job.state == "done" else None,
            error=ErrorDetail(**job.error.fields) if job.error else None,
        )

    def stop(self) -> None:
        """Cancel all jobs and start no other; waits until the running one has noticed."""
        with self._lock:
            self._stopped = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
