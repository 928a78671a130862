from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych.errors import StoreError
from diptych_edge import EdgeClient
from diptych_edge.engine import optimizer
from diptych_edge.engine import shard as shards
from diptych_edge.engine.optimization import STAGES
from diptych_edge.health.repair import link_data, unlink_data
from diptych_edge.health.wal import allocated
from waiting import until

Start = Callable[[str], subprocess.Popen[str]]
DIM = 32


def point(identifier: int) -> models.PointStruct:
    vector = np.random.default_rng(identifier).normal(size=DIM).tolist()
    return models.PointStruct(id=identifier, vector={"d": vector}, payload={"new": identifier})


def content(client: EdgeClient) -> dict[object, models.Record]:
    return {record.id: record for record in client.scroll("many", limit=100_000, with_vectors=True)[0]}


def test_optimising_builds_the_index_and_changes_no_content(many: EdgeClient) -> None:
    before, query = content(many), [1.0] * DIM
    exact = many.query_points("many", query, using="d", search_params=models.SearchParams(exact=True)).points
    assert many.needs_optimizing("many")
    assert many.get_collection("many").status == models.CollectionStatus.GREY
    stages: list[str] = []
    assert many.optimize("many", on_stage=stages.append).result()
    assert stages == list(STAGES)
    assert not many.needs_optimizing("many")
    info = many.get_collection("many")
    assert (info.status, info.points_count) == (models.CollectionStatus.GREEN, 2000)
    assert info.indexed_vectors_count == 2000
    assert content(many) == before
    assert many.query_points("many", query, using="d").points[0].id == exact[0].id
    assert not many.optimize("many").result()


def test_searches_and_writes_go_on_while_it_runs(many: EdgeClient) -> None:
    answers, done = [0], threading.Event()
    expected = set(range(2000))

    def search() -> None:
        while not done.is_set():
            assert len(many.query_points("many", [1.0] * DIM, using="d", limit=3).points) == 3
            answers[0] += 1

    def write() -> None:
        for identifier in range(5000, 5300):
            many.upsert("many", [point(identifier)])
            if identifier % 3 == 0:
                many.delete("many", [identifier - 5000])
                many.set_payload("many", {"seen": True}, [identifier])
                expected.discard(identifier - 5000)
            expected.add(identifier)

    threads = [threading.Thread(target=search), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    future = many.optimize("many", wait=False)
    assert many.optimize("many", wait=False) is future or future.done()
    assert future.result()
    threads[1].join()
    done.set()
    threads[0].join()
    assert answers[0] > 0
    found = content(many)
    assert set(found) == expected
    assert found[5001].payload == {"new": 5001, "seen": True}
    assert found[5002].payload == {"new": 5002}
    before = found
    path = many.path
    many.close()
    with EdgeClient(path) as again:
        assert content(again) == before


def test_each_write_during_the_run_is_replayed(many: EdgeClient) -> None:
    late = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=4, distance=models.Distance.DOT))

    def write(stage: str) -> None:
        if stage != "optimizing":
            return
        many.upsert("many", [point(9000), point(1)])
        many.delete("many", [2])
        many.set_payload("many", {"p": 1}, [3])
        many.clear_payload("many", [4])
        many.create_vector_name("many", "late", late)
        many.update_vectors("many", [models.PointVectors(id=5, vector={"late": [1.0, 2.0, 3.0, 4.0]})])
        many.create_payload_index("many", "i", models.PayloadSchemaType.INTEGER)
        many.update_collection("many", metadata={"during": True})
        with pytest.raises(Exception, match="no point 77777"):
            many.set_payload("many", {"half": True}, [6, 77777])
        states.append(content(many))

    states: list[dict[object, models.Record]] = []
    assert many.optimize("many", on_stage=write).result()
    assert content(many) == states[0]
    info = many.get_collection("many")
    assert list(info.payload_schema) == ["i"]
    assert info.config.metadata == {"during": True}
    assert many.query_points("many", [1.0, 2.0, 3.0, 4.0], using="late").points[0].id == 5


def vectors_of(client: EdgeClient) -> dict[object, Any]:
    return {record.id: record.vector for record in content(client).values()}


@pytest.mark.parametrize("appended", [1, 300])
def test_vectors_written_during_the_run_are_right_though_it_shares_files(many: EdgeClient, appended: int) -> None:
    def write(stage: str) -> None:
        if stage == "optimizing":
            many.upsert("many", [point(i) for i in range(3000, 3100)])
            many.update_vectors("many", [models.PointVectors(id=i, vector=point(i + 9).vector or {}) for i in changed])
        if stage == "replaying":
            many.upsert("many", [point(i) for i in range(3100, 3200)])
        states.append(vectors_of(many))

    states: list[dict[object, Any]] = []
    many.optimize("many")
    many.delete("many", list(range(1000)))
    many.upsert("many", [point(i) for i in range(2000, 2000 + appended)])  # a small segment stays as it is
    changed = [*range(1500, 1550), *range(2000, 2000 + appended, 7)]
    assert many.optimize("many", on_stage=write).result()
    after = vectors_of(many)
    assert states[-1] == after
    during: dict[object, Any] = {i: states[1][i] for i in [*range(3000, 3100), *changed]}
    assert states[1] == {**states[0], **during}
    assert after == states[1] | {i: after[i] for i in range(3100, 3200)}
    for identifier in (1500, 3000, 3199, *([2007] if appended > 7 else [])):
        expected: Any = point(identifier + 9 if identifier in changed else identifier).vector
        assert np.allclose(after[identifier]["d"], expected["d"], atol=1e-6)
    path = many.path
    many.close()
    with EdgeClient(path) as again:
        assert vectors_of(again) == after


def test_a_copy_shares_vectors_until_it_is_written_to(many: EdgeClient, tmp_path: Path) -> None:
    path = many.path
    many.optimize("many")
    many.upsert("many", [point(i) for i in range(2000, 2300)])
    many.close()
    source = next(path.glob("collections/*/shard-*"))
    link_data(source, target := tmp_path / "copy")
    both, one = allocated(tmp_path), allocated(source)
    written = [found.relative_to(target) for found in target.glob("segments/*/*/vectors/chunk_*")]
    if not (target / written[0]).samefile(source / written[0]):
        pytest.skip("this file system has no hard links")
    assert both < 2 * one
    unlink_data(target)
    assert not any((target / name).samefile(source / name) for name in written)
    assert all((target / name).read_bytes() == (source / name).read_bytes() for name in written)
    matrix = next(target.glob("segments/*/*/matrix.dat"))
    assert matrix.samefile(source / matrix.relative_to(target))  # is never written to


def test_writes_that_outrun_an_optimisation_are_slowed_down_but_not_held(many: EdgeClient) -> None:
    took: list[float] = []

    def write(stage: str) -> None:
        if stage == "optimizing":
            for large in range(3):
                start = time.monotonic()
                many.upsert("many", [point(large).model_copy(update={"payload": {"text": "x" * shards.JOURNAL}})])
                took.append(time.monotonic() - start)

    assert many.optimize("many", on_stage=write).result()
    assert min(took[1:]) >= shards.PAUSE
    assert [len((record.payload or {})["text"]) for record in many.retrieve("many", [0, 1, 2])] == [shards.JOURNAL] * 3


def test_an_optimisation_that_began_by_itself_and_is_cut_short_by_closing_is_no_warning(
    many: EdgeClient, caplog: pytest.LogCaptureFixture
) -> None:
    many.optimize("many")
    many.delete("many", list(range(1500)))
    found = many._find("many")
    found.shard.flush()
    many._maintain(found)
    run = many._futures[found]
    many.close()
    with contextlib.suppress(StoreError):
        run.result(60)
    assert not caplog.records


@pytest.mark.parametrize("writing", [False, True])
def test_an_index_that_cannot_be_loaded_leaves_the_collection_as_it_was(many: EdgeClient, writing: bool) -> None:
    def spoil(stage: str) -> None:
        if stage == "optimizing" and writing:
            many.upsert("many", [point(9000)])
        if stage == "exchanging":
            for _ in range(3):  # a shard that was just closed may still write its own state once
                for segment in many.path.glob("collections/*/shard-*/segments/*/segment.json"):
                    if not str(segment).startswith(str(original)):
                        segment.write_text("damaged")
                time.sleep(0.2)

    original, before = next(many.path.glob("collections/*/shard-*")), content(many)
    with pytest.raises(StoreError, match=r"(?s)cannot open a collection.*shard-"):
        many.optimize("many", on_stage=spoil)
    assert set(content(many)) == set(before) | ({9000} if writing else set())
    many.upsert("many", [point(9001)])
    assert [place.name for place in many.path.glob("collections/*/shard-*")] == [original.name]
    many.close()
    with EdgeClient(many.path) as again:
        assert 9001 in content(again)
        assert again.optimize("many").result()


MAPS = Path("/proc/self/maps")


@pytest.mark.skipif(not MAPS.exists(), reason="needs Linux, which tells what a process has mapped into memory")
def test_the_old_data_are_not_in_memory_together_with_the_new(many: EdgeClient) -> None:
    mapped: dict[str, set[str]] = {}

    def look(stage: str) -> None:
        mapped[stage] = set(re.findall(rf"{many.path}/collections/\S*/(shard-[0-9a-f]+)", MAPS.read_text()))

    assert many.optimize("many", on_stage=look).result()
    assert [len(mapped[stage]) for stage in ("copying", "exchanging", "exchanged")] == [1, 1, 1]
    assert mapped["exchanging"] != mapped["exchanged"]


KILLED_INSIDE = """
    client = EdgeClient(folder)
    left = {lines}
    def count(frame, event, argument):
        global left
        name = frame.f_code.co_filename
        left -= "/diptych_edge/" in name and "/health/" not in name  # whose lines are as many as files and blocks
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return count
    client.optimize("many", on_stage=lambda stage: sys.settrace(count if stage == "exchanging" else None))
    print("done", flush=True)
    """


@pytest.mark.slow
def test_a_kill_at_any_line_of_the_exchange_loses_nothing(many: EdgeClient, start: Start) -> None:
    before, outputs = content(many), []
    for lines in (5, 25, 45, 70, 95, 1000):  # of 122; the record is replaced at the 75th
        many.close()
        output, errors = start(KILLED_INSIDE.format(lines=lines)).communicate(timeout=60)
        assert errors == ""
        many = EdgeClient(many.path)
        assert content(many) == before
        outputs.append(output)
    many.close()
    assert outputs == [""] * 5 + ["done\n"]


def test_what_a_dying_optimizer_still_writes_is_removed_all_the_same(many: EdgeClient) -> None:
    many.close()
    left = next(many.path.glob("collections/*/")) / "shard-0123"
    left.mkdir()

    def write() -> None:
        with contextlib.suppress(OSError):  # the folder is gone
            for number in range(3000):
                (left / str(number)).touch()

    writer = threading.Thread(target=write)
    writer.start()
    with EdgeClient(many.path) as again:
        assert again.count("many").count == 2000
    writer.join()
    assert not left.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_an_optimizer_whose_parent_is_gone_changes_nothing(many: EdgeClient) -> None:
    many.close()
    folder = next(many.path.glob("collections/*/shard-*"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = subprocess.run([sys.executable, optimizer.__file__, str(folder), "1"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "the process that wanted this is gone\n")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_who_is_alone_waits_for_readers_and_new_readers_wait_for_him() -> None:
    gate, order = shards.Gate(), list[str]()

    def exchange() -> None:
        with gate.alone():
            order.append("alone")

    def read() -> None:
        gate.enter()
        order.append("late reader")
        gate.leave()

    gate.enter()
    gate.enter()
    threads = [threading.Thread(target=exchange), threading.Thread(target=read)]
    threads[0].start()
    until(lambda: gate._exclusive_waiting)
    threads[1].start()
    time.sleep(0.05)
    order.append("read")
    gate.leave()
    gate.leave()
    for thread in threads:
        thread.join(60)
    assert order == ["read", "alone", "late reader"]


def test_a_reader_may_enter_again_while_somebody_waits_to_be_alone() -> None:
    first, second, done = shards.Gate(), shards.Gate(), threading.Event()

    def exchange(gate: shards.Gate) -> None:
        with gate.alone():
            pass

    def read() -> None:
        first.enter()
        threads = [threading.Thread(target=exchange, args=(gate,)) for gate in (first, second)]
        second.enter()
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        for gate in (first, second):
            gate.enter()
            gate.leave()
        for gate in (first, second):
            gate.leave()
        for thread in threads:
            thread.join(60)
        done.set()

    threading.Thread(target=read, daemon=True).start()
    assert done.wait(60)


def test_a_failing_optimizer_leaves_the_collection_as_it_was(many: EdgeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(many)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StoreError, match=r"(?s)did not finish; the collection is as it was.*'many'.*exit code 1"):
        many.optimize("many")
    assert content(many) == before
    assert len(list(many.path.glob("collections/*/shard-*"))) == 1
    assert many.needs_optimizing("many")


def test_closing_ends_a_run(many: EdgeClient) -> None:
    future = many.optimize("many", wait=False)
    many.close()
    assert future.exception() is None or "did not finish" in str(future.exception())
    with EdgeClient(many.path) as again:
        assert again.count("many").count == 2000


def test_deleting_the_collection_ends_a_run(many: EdgeClient) -> None:
    many.optimize("many", wait=False)
    assert many.delete_collection("many")
    assert not many.collection_exists("many")
    assert list((many.path / "collections").iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_copied(many: EdgeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    with pytest.raises(StoreError, match=r"(?s)too little disk space.*1\.0 MiB free.*make room"):
        many.optimize("many")


def test_what_runs_is_reported(many: EdgeClient) -> None:
    reports: list[models.OptimizationsResponse] = []
    many.optimize("many", on_stage=lambda stage: reports.append(many.get_optimizations("many")))
    assert [report.running[0].progress.name for report in reports][:2] == ["copying", "optimizing"]
    assert reports[0].summary.queued_points == 2000
    after = many.get_optimizations("many")
    assert after.running == []
    assert after.summary.queued_optimizations == 0
