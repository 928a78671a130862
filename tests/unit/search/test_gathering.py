"""Callers who ask at the same time are answered together, and none gets what is another's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from diptych.errors import AdapterCrashed, Overloaded, StoreUnavailable
from diptych.search import microbatch
from diptych.search.microbatch import MOST_REQUESTS, MicroBatcher


class PanicException(BaseException):
    """As pyo3 raises it where Rust code panics."""


class Work:
    """Doubles numbers; the first call waits until `go` is set. `refuse` says which asks make a call fail."""

    def __init__(self, refuse: Callable[[int], BaseException | None] = lambda ask: None) -> None:
        self.batches: list[list[int]] = []
        self.threads: list[threading.Thread] = []
        self.begun, self.go, self.refuse = threading.Event(), threading.Event(), refuse

    def __call__(self, asks: Sequence[int]) -> list[int]:
        self.batches.append(list(asks))
        self.threads.append(threading.current_thread())
        if len(self.batches) == 1:
            self.begun.set()
            assert self.go.wait(20)
        for ask in asks:
            if error := self.refuse(ask):
                raise error
        return [2 * ask for ask in asks]


def busy(work: Work) -> MicroBatcher[int, int]:
    """A gathering at work on 0, until `work.go` is set."""
    batcher = MicroBatcher(work, patience=300)
    batcher.later(0)
    assert work.begun.wait(20)
    return batcher


def free() -> Work:
    work = Work()
    work.go.set()
    return work


def test_who_comes_alone_is_served_at_once_by_its_own_thread() -> None:
    work = free()
    batcher = MicroBatcher(work)
    assert [batcher.answer(1), batcher.answer(2)] == [2, 4]
    assert work.batches == [[1], [2]]
    assert set(work.threads) == {threading.current_thread()}


def test_a_thread_that_comes_while_others_are_at_work_joins_them() -> None:
    work = Work()
    batcher = MicroBatcher(work, patience=300)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.answer, 1)
        assert work.begun.wait(20)
        waiting = [batcher.later(2), pool.submit(batcher.answer, 3)]
        while len(batcher._waiting) < 2:
            pass
        work.go.set()
        assert [future.result(20) for future in (first, *waiting)] == [2, 4, 6]
    assert [sorted(batch) for batch in work.batches] == [[1], [2, 3]]


def test_a_batch_is_bounded() -> None:
    work = Work()
    batcher = busy(work)
    futures = [batcher.later(ask) for ask in range(1, 2 * MOST_REQUESTS)]
    work.go.set()
    assert [future.result(20) for future in futures] == [2 * ask for ask in range(1, 2 * MOST_REQUESTS)]
    assert [len(batch) for batch in work.batches] == [1, MOST_REQUESTS, MOST_REQUESTS - 1]


def test_an_error_is_only_told_to_the_one_whose_it_is() -> None:
    work = Work(lambda ask: ValueError(f"no {ask}") if ask == 2 else None)
    batcher = busy(work)
    futures = [batcher.later(ask) for ask in (1, 2, 3)]
    work.go.set()
    assert [futures[0].result(20), futures[2].result(20)] == [2, 6]
    with pytest.raises(ValueError, match="no 2"):
        futures[1].result(20)
    assert work.batches[1] == [1, 2, 3]
    assert sorted(work.batches[2:]) == [[1], [2], [3]]


def test_a_store_that_does_not_answer_is_asked_once_for_all() -> None:
    work = Work(lambda ask: StoreUnavailable("down") if ask else None)
    batcher = busy(work)
    futures = [batcher.later(ask) for ask in (1, 2)]
    work.go.set()
    for future in futures:
        with pytest.raises(StoreUnavailable, match="down"):
            future.result(20)
    assert work.batches == [[0], [1, 2]]


def test_what_was_cancelled_is_not_asked_and_the_others_are() -> None:
    work = Work()
    batcher = busy(work)
    futures = [batcher.later(ask) for ask in (1, 2, 3)]
    assert futures[1].cancel()
    work.go.set()
    assert [futures[0].result(20), futures[2].result(20)] == [2, 6]
    assert work.batches == [[0], [1, 3]]


def test_work_that_asks_itself_does_not_wait_for_itself() -> None:
    def work(asks: Sequence[int]) -> list[int]:
        return [ask if ask < 10 else batcher.answer(ask // 10) for ask in asks]

    batcher = MicroBatcher(work)
    assert batcher.answer(123) == 1
    assert batcher.later(45).result(20) == 4


def test_several_event_loops_may_ask_at_once() -> None:
    batcher = MicroBatcher(free())

    async def one(ask: int) -> int:
        return await asyncio.wrap_future(batcher.later(ask))

    async def loop(first: int) -> list[int]:
        return [await one(ask) for ask in range(first, first + 20)]

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda first: asyncio.run(loop(first)), (0, 100, 200)))
    assert answers == [[2 * ask for ask in range(first, first + 20)] for first in (0, 100, 200)]


@pytest.mark.parametrize("raised", [PanicException("index out of bounds"), SystemExit(3), KeyboardInterrupt()])
def test_every_waiter_gets_an_error_whatever_ends_the_work_and_the_next_are_served(raised: BaseException) -> None:
    work = Work(lambda ask: raised if ask < 3 else None)
    batcher = busy(work)
    futures = [batcher.later(ask) for ask in (1, 2, 3)]
    work.go.set()
    for future in futures[:2]:
        with pytest.raises(AdapterCrashed, match=type(raised).__name__):
            future.result(20)
    assert futures[2].result(20) == 6
    assert [batcher.answer(4), batcher.later(5).result(20)] == [8, 10]


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_ends_the_callers_own_call_and_those_who_wait_are_answered(leaving: type[BaseException]) -> None:
    work = Work(lambda ask: leaving() if ask == 1 else None)
    batcher = MicroBatcher(work, patience=300)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(batcher.answer, 1)
        assert work.begun.wait(20)
        waits = batcher.later(2)
        work.go.set()
        with pytest.raises(leaving):
            first.result(20)
    assert waits.result(20) == 4
    assert batcher.answer(3) == 6


def test_too_few_answers_are_an_error_of_each_and_the_next_are_served() -> None:
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda asks: [2 * ask for ask in asks if ask != 1])
    with pytest.raises(ValueError, match="shorter"):
        batcher.later(1).result(20)
    assert batcher.answer(2) == 4


class Hanging:
    """Hangs on negative numbers until `go` is set, and doubles the others."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Semaphore(0)

    def __call__(self, asks: Sequence[int]) -> list[int]:
        if any(ask < 0 for ask in asks):
            self.begun.release()
            assert self.go.wait(60)
        return [2 * ask for ask in asks]

    def hang(self, batcher: MicroBatcher[int, int], ask: int) -> Future[int]:
        """Ask for something that hangs; nothing that is asked later is in its batch."""
        future = batcher.later(ask)
        assert self.begun.acquire(timeout=20)
        return future


def test_a_hundred_calls_that_hang_hold_up_nobody_else() -> None:
    work = Hanging()
    batcher = MicroBatcher(work, patience=0.01)
    hanging = []
    for number in range(1, 101):
        hanging.append(work.hang(batcher, -number))
        assert batcher.later(number).result(20) == 2 * number
    assert batcher.answer(7) == 14
    assert not any(future.done() for future in hanging)
    work.go.set()
    assert [future.result(20) for future in hanging] == [-2 * number for number in range(1, 101)]


def test_when_every_thread_hangs_the_next_are_refused_until_one_ends() -> None:
    work = Hanging()
    batcher = MicroBatcher(work, patience=0.2, threads=3)  # less, and a slow start of a thread would count as a hang
    hanging = [work.hang(batcher, -number) for number in (1, 2, 3)]
    for _ in range(5):
        with pytest.raises(Overloaded, match="3 earlier calls have not ended"):
            batcher.later(4).result(20)
    work.go.set()
    assert [future.result(20) for future in hanging] == [-2, -4, -6]
    assert served(batcher, 5) == 10


def served(batcher: MicroBatcher[int, int], ask: int) -> int:
    """The answer, once a thread is free."""
    until = time.monotonic() + 20
    while True:
        try:
            return batcher.later(ask).result(20)
        except Overloaded:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_calls_of_a_failed_batch_that_hang_alone_hold_up_nobody_else() -> None:
    def work(asks: Sequence[int]) -> list[int]:
        if asks == [0]:
            begun.set()
            assert together.wait(60)
        elif len(asks) > 1:
            raise ValueError("not together")
        elif asks[0] < 0:
            assert go.wait(60)
        return [2 * ask for ask in asks]

    begun, together, go = threading.Event(), threading.Event(), threading.Event()
    batcher: MicroBatcher[int, int] = MicroBatcher(work, patience=300)
    first = batcher.later(0)
    assert begun.wait(20)
    hanging = [batcher.later(-number) for number in range(1, 41)]
    together.set()
    assert first.result(20) == 0
    assert batcher.later(3).result(20) == 6
    go.set()
    assert [future.result(20) for future in hanging] == [-2 * number for number in range(1, 41)]


def together(batcher: MicroBatcher[int, int], asks: Sequence[int]) -> list[Future[int]]:
    """Have a thread answer all of these as one batch, however busy the machine is."""
    futures: list[Future[int]] = [Future() for _ in asks]
    assert all(future.set_running_or_notify_cancel() for future in futures)
    batcher._submit(batcher._answer, list(zip(asks, futures, strict=True)))
    return futures


def test_a_query_that_hangs_holds_up_nobody_of_its_own_batch() -> None:
    hanging = Hanging()
    batcher = MicroBatcher(hanging, patience=0.2)
    asks = [-1 if place == 20 else place + 1 for place in range(MOST_REQUESTS)]
    futures = together(batcher, asks)
    for ask, future in zip(asks, futures, strict=True):
        if ask > 0:
            assert future.result(20) == 2 * ask
    assert not futures[20].done()
    hanging.go.set()
    assert futures[20].result(20) == -2
    assert batcher.answer(5) == 10


def test_the_first_answer_of_a_slow_batch_counts_and_a_later_error_of_it_is_nobodys() -> None:
    def work(asks: Sequence[int]) -> list[int]:
        batches.append(list(asks))
        if len(asks) > 1:
            assert slow_ends.wait(20)
            raise ValueError("too late")
        return [2 * ask for ask in asks]

    slow_ends, batches = threading.Event(), list[list[int]]()
    batcher: MicroBatcher[int, int] = MicroBatcher(work, patience=0.1)
    assert [future.result(20) for future in together(batcher, [1, 2, 3])] == [2, 4, 6]
    slow_ends.set()
    assert batcher.later(4).result(20) == 8
    assert sorted(batches) == [[1], [1, 2, 3], [2], [3], [4]]


def test_batches_that_usually_take_long_are_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(asks: Sequence[int]) -> list[int]:
        batches.append(list(asks))
        seconds.append(0.5)  # that go by, as the batcher sees it
        time.sleep(0.5)  # meanwhile it looks
        return [2 * ask for ask in asks]

    batches, seconds = list[list[int]](), list[float]()
    monkeypatch.setattr(microbatch, "time", SimpleNamespace(monotonic=lambda: sum(seconds)))
    batcher: MicroBatcher[int, int] = MicroBatcher(work, patience=0.1)
    batcher.later(0).result(20)  # it alone shows how long they take
    assert [future.result(20) for future in together(batcher, [1, 2])] == [2, 4]
    assert batches == [[0], [1, 2]]


def test_when_no_thread_is_left_for_the_pieces_of_a_batch_their_askers_are_refused() -> None:
    hanging = Hanging()
    batcher = MicroBatcher(hanging, patience=0.1, threads=2)
    futures = together(batcher, [-1, 1, 2])
    for future in futures[1:]:
        with pytest.raises(Overloaded, match="2 earlier calls have not ended"):
            future.result(20)
    hanging.go.set()
    assert futures[0].result(20) == -2
