"""The gentle pace: few points at once, at a rate that follows what a probe query takes. Time is made up."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable

import pytest

from diptych.populate.pace import (
    AT_ONCE,
    DECIDE,
    FAILED,
    FIRST_RATE,
    LEAST_RATE,
    MOST_RATE,
    SLOWER,
    Gentle,
    Pace,
)

QUIET = 0.002
SLOW, USUAL = 1.5 * SLOWER * QUIET, QUIET


class Clock(threading.Event):
    """Made-up time, which passes while somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set, at once."""
        if not self.is_set():
            self.now += timeout or 0.0
        return self.is_set()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Gentle:
    made = Gentle(lambda: USUAL, clock, clock=clock)
    made.measure_quiet([QUIET] * 10)
    return made


def noted(pace: Gentle, seconds: Iterable[float]) -> float:
    """The rate after probes of so many seconds, while as much is written as it allows."""
    for one in seconds:
        list(pace.parts([0] * 2 * AT_ONCE))
        pace.note(one)
    return pace.rate


def test_the_gentle_pace_writes_few_points_at_once_and_keeps_its_rate(pace: Gentle, clock: Clock) -> None:
    points = list(range(10 * AT_ONCE + 1))
    parts = list(pace.parts(points))
    assert list(itertools.chain.from_iterable(parts)) == points
    assert max(map(len, parts)) == AT_ONCE
    assert clock.now == pytest.approx(10 * AT_ONCE / FIRST_RATE)


def test_time_that_was_lost_elsewhere_is_not_made_up_for_by_a_burst(pace: Gentle, clock: Clock) -> None:
    list(pace.parts(list(range(AT_ONCE))))
    clock.now += 100
    begin = clock.now
    list(pace.parts(list(range(3 * AT_ONCE))))
    assert clock.now - begin == pytest.approx(2 * AT_ONCE / FIRST_RATE)


def test_a_copy_keeps_its_rate_and_makes_up_for_no_lost_time(clock: Clock) -> None:
    limited = Pace(rate=100, stopped=clock, clock=clock)
    limited.wait(50)
    clock.now += 10
    assert [limited.wait(50), limited.wait(50), clock.now] == [False, True, pytest.approx(10.5)]
    assert not Pace(stopped=clock, clock=clock).wait(10**9)


def test_slow_probes_lower_the_rate_to_its_least_and_usual_ones_raise_it_to_its_most(pace: Gentle) -> None:
    assert noted(pace, [SLOW] * DECIDE) < FIRST_RATE
    assert noted(pace, [SLOW] * 100 * DECIDE) == LEAST_RATE
    assert noted(pace, [USUAL] * 10 * DECIDE) > LEAST_RATE
    assert noted(pace, [USUAL] * 100 * DECIDE) == MOST_RATE


def test_single_slow_probes_earlier_ones_and_those_of_an_idle_writer_decide_nothing(pace: Gentle) -> None:
    for _ in range(10 * DECIDE):
        pace.note(USUAL)
    assert pace.rate == FIRST_RATE, "nothing is held back by it"
    raised = noted(pace, [*[USUAL] * 4 * DECIDE, SLOW, *[USUAL] * (DECIDE - 1)])
    assert raised > FIRST_RATE
    lowered = noted(pace, [SLOW] * DECIDE)
    assert lowered < raised
    assert noted(pace, [USUAL] * DECIDE) > lowered


def test_a_probe_that_fails_is_a_slow_one_and_ends_nothing(clock: Clock) -> None:
    answers = iter([0.1, 0.3])

    def fails_in_the_end() -> float:
        return next(answers)

    pace = Gentle(fails_in_the_end, clock, clock=clock)
    with pace.applied():
        pass
    assert 0.1 < pace.quiet <= 0.3
    assert noted(pace, [FAILED] * DECIDE) < FIRST_RATE


def test_a_back_fill_that_is_stopped_waits_no_more(pace: Gentle, clock: Clock) -> None:
    clock.set()
    assert len(list(pace.parts(list(range(5 * AT_ONCE))))) == 5
    assert clock.now == 0
