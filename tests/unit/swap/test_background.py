"""Work in the background: its result and its errors come back, it gives way to the rest, and Ctrl-C ends it cleanly."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diptych.populate.pace import NICENESS, in_background
from interrupting import interrupted


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_the_result_comes_back_and_an_error_with_where_it_was_raised() -> None:
    def fails() -> None:
        raise ValueError("the reason")

    assert in_background(lambda: "done", threading.Event()) == "done"
    with pytest.raises(ValueError, match="the reason") as raised:
        in_background(fails, threading.Event())
    assert "fails" in [entry.name for entry in raised.traceback]


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of single threads are Linux's")
def test_the_work_and_its_threads_give_way_and_the_caller_does_not() -> None:
    def work() -> tuple[int, int]:
        with ThreadPoolExecutor(1) as pool:
            return priority(), pool.submit(priority).result()

    before = priority()
    assert in_background(work, threading.Event()) == (max(before, NICENESS),) * 2
    assert priority() == before


def test_ctrl_c_tells_the_work_to_stop_and_is_raised_when_it_has() -> None:
    assert interrupted(Path(__file__)) == "raised when the work had ended"


def main() -> None:
    """In a process of its own: work in the background that Ctrl-C stops."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # heard, whatever a test before has left
    stopped, ended = threading.Event(), threading.Event()

    def work() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert stopped.wait(30)
        ended.set()

    try:
        in_background(work, stopped)
    except KeyboardInterrupt:
        print("raised when the work", "had ended" if ended.is_set() else "went on")


if __name__ == "__main__":
    main()
