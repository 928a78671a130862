from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diptych.populate.read_ahead import Abandoned, read_ahead
from interrupting import interrupted


def counted(read: list[int], *, until: int = 50, error: BaseException | None = None) -> Iterator[int]:
    for number in range(until):
        read.append(number)
        yield number
    if error is not None:
        raise error


def test_the_source_is_read_in_the_callers_thread_and_worked_on_in_another() -> None:
    base = sqlite3.connect(":memory:")  # refuses other threads
    base.executescript("CREATE TABLE t (n); INSERT INTO t VALUES (1), (2), (3)")
    threads: set[int] = set()
    got: list[int] = []

    def work(entries: Iterator[tuple[int]]) -> None:
        threads.add(threading.get_ident())
        got.extend(n for (n,) in entries)

    read_ahead(base.execute("SELECT n FROM t"), work, room=2, stopped=threading.Event())
    base.close()
    assert (got, threads & {threading.get_ident()}) == ([1, 2, 3], set())


def test_reading_goes_on_while_one_entry_is_worked_on_but_no_further_than_there_is_room() -> None:
    read: list[int] = []
    seen: list[int] = []

    def work(entries: Iterator[int]) -> None:
        for entry in entries:
            while len(read) < min(50, entry + 4):  # the work does not go on before the source is ahead by three
                time.sleep(0.001)
            time.sleep(0.002)
            seen.append(len(read) - entry)

    read_ahead(counted(read), work, room=3, stopped=threading.Event())
    assert max(seen) <= 5  # the one at work, three in the queue, one in the reader's hand


def test_what_the_work_raises_ends_the_reading() -> None:
    read: list[int] = []

    def work(entries: Iterator[int]) -> None:
        next(entries)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        read_ahead(counted(read, until=1000), work, room=2, stopped=threading.Event())
    assert len(read) < 1000


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_a_source_that_fails_abandons_the_work_and_leaves_no_thread(error: BaseException) -> None:
    before, stopped, told = threading.enumerate(), threading.Event(), list[bool]()

    def work(entries: Iterator[int]) -> None:
        try:
            for _ in entries:
                pass
        except Abandoned:
            told.append(True)
            raise

    with pytest.raises(type(error)):
        read_ahead(counted([], until=5, error=error), work, room=2, stopped=stopped)
    assert (told, stopped.is_set()) == ([True], True)
    assert set(threading.enumerate()) <= set(before)  # of which those of other tests may have ended meanwhile


def test_ctrl_c_after_the_source_was_read_ends_the_work_too() -> None:
    assert interrupted(Path(__file__)) == "stopped after [0, 1, 2, 3]"


def main() -> None:
    """In a process of its own: read all, work on some, press Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # heard, whatever a test before has left
    got: list[int] = []
    stopped = threading.Event()

    def work(entries: Iterator[int]) -> None:
        for entry in entries:
            got.append(entry)
            if entry == 3:
                os.kill(os.getpid(), signal.SIGINT)
            stopped.wait(0.2 if entry < 3 else 60)

    try:
        read_ahead(range(20), work, room=30, stopped=stopped)
    except KeyboardInterrupt:
        print("stopped" if stopped.is_set() else "not stopped", "after", got)


if __name__ == "__main__":
    main()
