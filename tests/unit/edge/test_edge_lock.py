from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.errors import StoreError, StoreLocked
from diptych.stores.edge import EdgeClient

Start = Callable[[str], subprocess.Popen[str]]
HOLD = """
    client = EdgeClient(folder)
    print("open", flush=True)
    sys.stdin = open(0)
    signal.pause()
    """


def test_a_second_client_of_this_process_is_told_so(client: EdgeClient) -> None:
    with pytest.raises(StoreLocked, match=r"(?s)open elsewhere.*another EdgeClient of this process.*close that client"):
        EdgeClient(client.path)


def test_a_client_in_another_process_is_told_who_holds_the_path(start: Start, folder: Path) -> None:
    holder = start(HOLD)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(StoreLocked, match=rf"(?s)held by process {holder.pid}\b.*use a server") as caught:
        EdgeClient(folder)
    assert caught.value.context["holder"] == holder.pid


def test_the_lock_of_a_killed_process_blocks_nobody(start: Start, folder: Path) -> None:
    holder = start(HOLD)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    EdgeClient(folder).close()


def test_closing_lets_others_in_and_may_be_repeated(folder: Path) -> None:
    first = EdgeClient(folder)
    first.close()
    first.close()
    with EdgeClient(folder) as second:
        assert second.get_collections().collections == []
    with pytest.raises(StoreError, match="embedded store is closed"):
        first.get_collections()


def test_a_forgotten_client_lets_others_in(folder: Path) -> None:
    client = EdgeClient(folder)
    del client
    EdgeClient(folder).close()


def test_a_closed_collection_says_so(docs: EdgeClient) -> None:
    docs.close()
    with pytest.raises(StoreError, match=r"(?s)embedded store is closed.*open a new EdgeClient"):
        docs.count("docs")
