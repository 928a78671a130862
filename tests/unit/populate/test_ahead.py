from __future__ import annotations

import os
import signal
import threading
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
