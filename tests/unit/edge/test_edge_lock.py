from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from qdrant_client import models

from diptych.errors import StoreError, StoreLocked
from diptych_edge import EdgeClient

Start = Callable[[str], subprocess.Popen[str]]
HOLD = """
    client = EdgeClient(folder)
    print("open", flush=True)
    sys.stdin = open(0)
    signal.pause()
    """


@pytest.fixture
def holder(start: Start) -> subprocess.Popen[str]:
    """Another process that holds the store."""
    process = start(HOLD)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_clients_of_one_process_share_what_they_see_and_close_each_for_itself(docs: EdgeClient) -> None:
    with EdgeClient(docs.path) as second:
        second.upsert("docs", [models.PointStruct(id=9, vector={"dense": [1.0, 0.0, 0.0, 0.0]}, payload={})])
        assert docs.count("docs").count == 5
    with pytest.raises(StoreError, match="embedded store is closed"):
        second.count("docs")
    assert docs.count("docs").count == 5


@pytest.mark.slow
def test_the_path_is_free_only_when_the_last_client_of_a_process_is_closed(start: Start, folder: Path) -> None:
    opens = "EdgeClient(folder).close()"
    first, second = EdgeClient(folder), EdgeClient(folder)
    first.close()
    first.close()
    assert "StoreLocked" in start(opens).communicate()[1]
    second.close()
    assert start(opens).communicate()[1] == ""


def test_when_one_collection_cannot_be_closed_the_others_are_flushed_and_closed_before_others_come_in(
    folder: Path,
) -> None:
    client = EdgeClient(folder)
    for name in "abc":
        client.create_collection(name, models.VectorParams(size=2, distance=models.Distance.DOT))
        client.upsert(name, [models.PointStruct(id=1, vector=[1.0, 0.0])])
    opened = {collection.record.name: collection for collection in client._catalog.opened()}
    for name in "bc":
        shutil.rmtree(client._catalog._folders[name])  # Edge cannot flush it any more
    with pytest.raises(StoreError, match=r"(?s)refused the operation.*collection '[bc]'") as failed:
        client.close()
    assert len(failed.value.__notes__) == 1
    for collection in opened.values():
        with pytest.raises(StoreError, match="collection is closed"):
            collection.shard.flush()
        with pytest.raises(Exception, match="not initialized"):
            collection.shard._edge.info()
    with EdgeClient(folder) as again:
        assert again.count("a").count == 1


@pytest.mark.slow
def test_clients_opened_and_closed_by_many_threads_lose_nothing(folder: Path) -> None:
    def use(number: int) -> None:
        with EdgeClient(folder) as client:
            client.create_collection(f"c{number}", models.VectorParams(size=2, distance=models.Distance.DOT))
            client.upsert(f"c{number}", [models.PointStruct(id=number, vector=[1.0, 0.0])])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(24)))
    with EdgeClient(folder) as client:
        assert [client.count(f"c{number}").count for number in range(24)] == [1] * 24


def test_a_folder_that_was_replaced_under_a_client_is_another_store(docs: EdgeClient) -> None:
    shutil.rmtree(docs.path)
    with EdgeClient(docs.path) as second:
        assert second.get_collections().collections == []


def test_a_forked_process_leaves_the_store_to_its_parent(docs: EdgeClient) -> None:
    child = os.fork()
    if not child:
        try:
            docs.count("docs")
        except StoreError as error:
            docs.close()
            os._exit(0 if "after a fork" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    docs.upsert("docs", [models.PointStruct(id=9, vector={"dense": [1.0, 0.0, 0.0, 0.0]}, payload={})])
    docs.close()
    with EdgeClient(docs.path) as again:
        assert again.count("docs").count == 5


def test_a_forked_process_that_ends_as_usual_writes_nothing(start: Start, folder: Path) -> None:
    program = start(
        """
    import atexit, gc
    client = EdgeClient(folder)
    client.create_collection("c", models.VectorParams(size=2, distance="Dot"))
    client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0])])
    if not os.fork():
        atexit._run_exitfuncs()
        del client
        gc.collect()
        os._exit(0)  # what further libraries do at the end of a forked process is not the matter
    os.wait()
    client.upsert("c", [models.PointStruct(id=2, vector=[1.0, 0.0])])
    os.kill(os.getpid(), signal.SIGKILL)
    """
    )
    assert program.communicate()[1] == ""
    with EdgeClient(folder) as client:
        assert client.count("c").count == 2


def test_a_process_forked_from_the_holder_does_not_keep_the_store_locked(start: Start, folder: Path) -> None:
    holder = start(
        """
    client = EdgeClient(folder)
    client.create_collection("c", models.VectorParams(size=2, distance="Dot"))
    child = os.fork()
    if not child:
        signal.pause()
    print(child, flush=True)
    signal.pause()
    """
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        holder.kill()
        holder.wait()
        with EdgeClient(folder) as client:
            assert client.count("c").count == 0
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_client_in_another_process_is_told_who_holds_the_path(holder: subprocess.Popen[str], folder: Path) -> None:
    with pytest.raises(StoreLocked, match=rf"(?s)held by process {holder.pid}\b.*wait until it ends") as caught:
        EdgeClient(folder)
    assert caught.value.context["holder"] == holder.pid


def test_the_lock_of_a_killed_process_blocks_nobody(holder: subprocess.Popen[str], folder: Path) -> None:
    os.kill(holder.pid, signal.SIGKILL)  # and not waited for: the system may take a moment to clear it away
    EdgeClient(folder, patience=60).close()


def test_a_lock_that_is_about_to_be_freed_is_waited_for(holder: subprocess.Popen[str], folder: Path) -> None:
    end = threading.Timer(0.5, holder.kill)
    end.start()
    EdgeClient(folder, patience=60).close()
    end.join()


def test_closing_lets_others_in_and_may_be_repeated(folder: Path) -> None:
    first = EdgeClient(folder)
    first.close()
    first.close()
    with EdgeClient(folder) as second:
        assert second.get_collections().collections == []
    with pytest.raises(StoreError, match=r"(?s)embedded store is closed.*open a new EdgeClient"):
        first.get_collections()


def test_a_forgotten_client_lets_others_in(folder: Path) -> None:
    client = EdgeClient(folder)
    del client
    EdgeClient(folder).close()
