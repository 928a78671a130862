"""Jobs run one after another, say how far they are, and end when nobody wants them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from diptych.errors import EvaluationError
from diptych_serve.service.admission import Refused
from diptych_serve.studio.jobs import Job, Jobs
from serving import until


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    made = Jobs(waiting=2, kept=2)
    yield made
    made.stop()


class Held:
    """Work that goes on until it is let go; each step of its progress may end it."""

    def __init__(self) -> None:
        self.began, self.free = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> str:
        job.begin("holding", 10)
        job.advance("holding", 4)
        self.began.set()
        assert self.free.wait(20)
        job.advance("holding", 6)
        return "held"


def ended(job: Job) -> bool:
    return job.is_over


def test_a_job_says_how_far_it_is_and_gives_its_result(jobs: Jobs) -> None:
    held = Held()
    job = jobs.start("evaluate", held)
    assert held.began.wait(20)
    said = jobs.described(job)
    assert (said.state, said.done, said.total, said.result) == ("running", 4, 10, None)
    assert said.sentence == "holding, 4 of 10"
    assert said.seconds_left is not None
    held.free.set()
    until(lambda: ended(job))
    assert (job.state, job.result, job.error) == ("done", "held", None)


def test_one_runs_at_a_time_and_the_others_say_that_they_wait(jobs: Jobs) -> None:
    held = Held()
    first = jobs.start("judging", held)
    assert held.began.wait(20)
    second, third = jobs.start("evaluate", lambda job: 2), jobs.start("evaluate", lambda job: 3)
    assert jobs.described(second).sentence == "waiting: 1 job is before this one"
    assert jobs.described(third).sentence == "waiting: 2 jobs are before this one"
    with pytest.raises(Refused, match="2 jobs are waiting") as refused:
        jobs.start("evaluate", lambda job: 4)
    assert refused.value.status == 429
    held.free.set()
    until(lambda: all(map(ended, (first, second, third))))
    assert [job.result for job in (first, second, third)] == ["held", 2, 3]


def test_a_cancelled_job_ends_at_its_next_step_and_a_waiting_one_never_begins(jobs: Jobs) -> None:
    held, begun = Held(), list[Job]()
    running, waiting = jobs.start("judging", held), jobs.start("judging", begun.append)
    assert held.began.wait(20)
    for job in (running, waiting):
        job.cancel()
    assert jobs.described(waiting).state == "cancelled"
    held.free.set()
    until(lambda: ended(running))
    assert (running.state, running.result, begun) == ("cancelled", None, [])
    assert jobs.start("evaluate", lambda job: 1).id not in (running.id, waiting.id), "others go on"


def test_a_job_that_nobody_asks_for_is_ended() -> None:
    forgetful = Jobs(patience=0.0)
    job = forgetful.start("judging", lambda job: job.begin("step", 1))
    until(lambda: ended(job))
    assert job.state == "cancelled"
    forgetful.stop()


def test_what_a_job_raises_is_said_as_an_answer_would_say_it(jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Exception) -> Any:
        def work(job: Job) -> None:
            raise error

        return work

    own, other = (
        jobs.start("judging", fail(EvaluationError("no judgements"))),
        jobs.start("judging", fail(OSError("secret"))),
    )
    until(lambda: ended(own) and ended(other))
    assert own.error is not None
    assert own.error.code == "evaluation_error"
    error = jobs.described(other).error
    assert error is not None
    assert (error.type, "secret" in error.message) == ("server_error", False)
    assert "a request failed" in caplog.text


def test_only_the_last_results_are_kept(jobs: Jobs) -> None:
    made = []
    for number in range(4):
        made.append(jobs.start("judging", lambda job, number=number: number))  # type: ignore[misc]
        until(lambda: ended(made[-1]))
    assert jobs.job(made[-1].id).result == 3
    with pytest.raises(Refused, match="only the last 2 results are kept"):
        jobs.job(made[0].id)


def test_a_service_that_ends_takes_its_jobs_along() -> None:
    jobs, held = Jobs(), Held()
    running, waiting = jobs.start("judging", held), jobs.start("judging", lambda job: 1)
    assert held.began.wait(20)
    stopping = threading.Thread(target=jobs.stop)
    stopping.start()
    until(lambda: waiting.state == "cancelled")
    held.free.set()
    stopping.join(20)
    assert (running.state, stopping.is_alive()) == ("cancelled", False)
    with pytest.raises(Refused, match="the service ends"):
        jobs.start("judging", lambda job: 1)
