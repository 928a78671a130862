"""Files that are lost or damaged while a store is closed are noticed at opening, before anything is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych.errors import StoreError
from diptych_edge import EdgeClient
from diptych_edge.health import seal, space
from diptych_edge.health.repair import RepairReport, copy_sparse
from diptych_edge.health.wal import log_end, newest_version

Start = Callable[[str], subprocess.Popen[str]]
SIZE = 660
FILL = """
    int8 = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))
    params = models.VectorParams(size=16, distance=models.Distance.COSINE, quantization_config=int8)
    client = EdgeClient(folder)
    early = models.OptimizersConfigDiff(indexing_threshold=1)
    client.create_collection("docs", {"d": params}, optimizers_config=early)
    rng = np.random.default_rng(0)
    def write(first, last):
        points = [
            models.PointStruct(id=i, vector={"d": rng.normal(size=16).tolist()}, payload={"i": i})
            for i in range(first, last)
        ]
        client.upsert("docs", points)
    write(0, 600)
    client.create_payload_index("docs", "i", "integer")
    client.optimize("docs")
    for first in range(600, 660, 20):
        write(first, first + 20)
    """
KILL = """
    os.kill(os.getpid(), signal.SIGKILL)
    """


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A collection `docs` of two segments, `closed` and `killed`: the latter has changes in its log alone."""
    made = {name: tmp_path_factory.mktemp(name) / "store" for name in ("closed", "killed")}
    for name, folder in made.items():
        head = (
            "import os, signal\nimport numpy as np\nfrom qdrant_client import models\n"
            f"from diptych_edge import EdgeClient\nfolder = {str(folder)!r}\n"
        )
        end = KILL if name == "killed" else "\nclient.close()\n"
        program = head + textwrap.dedent(FILL) + textwrap.dedent(end)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
        assert done.returncode == (-9 if name == "killed" else 0), done.stderr
    return made


@pytest.fixture(params=["closed", "killed"])
def store(request: pytest.FixtureRequest, stores: Mapping[str, Path], tmp_path: Path) -> Path:
    """A copy of one of the stores."""
    folder = tmp_path / "store"
    copied(stores[request.param], folder)
    return folder


def copied(source: Path, target: Path) -> None:
    """Copy a store without the socket that a killed process leaves and without the holes of its files."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".socket"), copy_function=copy_sparse)


def shard_of(store: Path) -> Path:
    return next(store.glob("collections/*/shard-*"))


def files(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes() for path in store.rglob("collections/**/*") if path.is_file()
    }


def refused(store: Path, match: str = "are damaged") -> StoreError:
    with EdgeClient(store) as client, pytest.raises(StoreError, match=match) as error:
        client.count("docs")
    assert "diptych doctor --repair" in error.value.do
    return error.value


@pytest.mark.slow
def test_a_store_without_damage_opens_and_takes_changes(store: Path) -> None:
    for number in range(3):
        with EdgeClient(store) as client:
            assert client.count("docs").count == SIZE + number
            client.upsert("docs", [models.PointStruct(id=9000 + number, vector={"d": [1.0] * 16}, payload={})])
            assert client.retrieve("docs", [9000 + number])


@pytest.mark.parametrize("text", ["[]", "1", '"x"', "null", '{"format": 1}', "{", "[" * 50_000])
def test_a_seal_that_says_nothing_is_as_none(store: Path, text: str) -> None:
    (shard_of(store) / "diptych-seal.json").write_text(text)
    with EdgeClient(store) as client:
        assert client.count("docs").count == SIZE


@pytest.mark.parametrize("text", ["[]", "1", "{}", '{"version": []}', '{"version": Infinity}', "[" * 50_000])
def test_a_state_of_a_segment_that_says_nothing_is_told_as_damage(store: Path, text: str) -> None:
    next(shard_of(store).glob("segments/*/segment.json")).write_text(text)
    refused(store, "are damaged|cannot open a collection")


@pytest.mark.parametrize("lost", ["folder", "files", "last file"])
def test_a_lost_log_is_told_and_nothing_is_changed(store: Path, lost: str) -> None:
    """Edge would count from 0 again, acknowledge changes, and ignore them."""
    wal = shard_of(store) / "wal"
    if lost == "folder":
        shutil.rmtree(wal)
    else:
        logs = sorted(path for path in wal.iterdir() if path.name != "first-index")
        for path in logs if lost == "files" else logs[-1:]:
            path.unlink()
    left = log_end(shard_of(store)) if any(wal.glob("open-*")) or any(wal.glob("closed-*")) else 0
    if left > newest_version(shard_of(store)) and left > (seal.read_mark(shard_of(store)) or (-1, 0))[0]:
        return  # an empty file, which nobody misses
    before = files(store)
    for _ in range(2):
        assert "log" in refused(store).got
        assert files(store).items() >= before.items()


@pytest.mark.parametrize("name", ["version.info", "segment.json"])
def test_a_segment_that_edge_would_throw_away_is_told_and_kept(store: Path, name: str) -> None:
    largest = max(shard_of(store).glob("segments/*"), key=lambda path: (path / "vector_index-d").exists())
    content = (largest / name).read_bytes()
    (largest / name).unlink()
    assert name in refused(store).got
    (largest / name).write_bytes(content)
    with EdgeClient(store) as client:
        assert client.count("docs").count == SIZE


Change = Callable[[bytearray], Any]


def flipped(place: int, bits: int) -> Change:
    """Other bits in one byte, which lies so many from the start or the end."""
    return lambda content: content.__setitem__(place, content[place] ^ bits)


def halfway(content: bytearray) -> None:
    content[len(content) // 2] ^= 16


def points_gone(content: bytearray) -> None:
    content[:8] = b"\xff" * 8


def shortened(content: bytearray) -> None:
    del content[-64:]


NEVER_CHANGED = (
    "id_tracker.mappings", "graph.bin", "links_compressed.bin", "matrix.dat", "quantized.data", "quantized.meta.json",
    "quantized.config.json",
)  # fmt: skip
CHANGED: list[tuple[str, str, Change, str]] = [  # a store, one of its files or each such file, what, and what is told
    # Edge reads a log as far as the checksums are right, and forgets the rest.
    *(("killed", "wal/open-*", flipped(place, 0x55), "") for place in (20, 600, 3000)),
    # Of deleted vectors, for one, which would make vectors of zeros out of good ones.
    *(("closed", f"segments/**/{name}", flipped(-1, 1), name)
      for name in ("deleted.dat", "id_tracker.versions", "id_tracker.deleted", "status.dat")),
    *(("killed", f"segments/*/**/{name}", halfway, f"{name} is not as it was written") for name in NEVER_CHANGED),
    # 2^43 entries more, for which Edge would take memory.
    *(("killed", f"segments/*/**/status.dat {n}", flipped(5, 8), "status.dat counts") for n in range(3)),
    # The mark says how many points there were after the last acknowledged change.
    ("killed", "segments/*/id_tracker.deleted *", points_gone, "points"),
    *((kind, "segments/*/vector_storage-d/matrix.dat *", shortened, "matrix.dat") for kind in ("closed", "killed")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "pattern", "change", "told"), CHANGED, ids=[f"{c[0]} {c[1]}" for c in CHANGED])
def test_changed_bytes_are_told(
    stores: Mapping[str, Path], tmp_path: Path, kind: str, pattern: str, change: Change, told: str
) -> None:
    folder = tmp_path / "store"
    copied(stores[kind], folder)
    name, _, which = pattern.partition(" ")
    paths = [
        path
        for path in sorted(shard_of(folder).glob(name))
        if path.read_bytes()[8:16].strip(b"\0") or "wal" not in name
    ]
    assert paths
    for path in paths if which == "*" else [paths[int(which or 0) % len(paths)]]:
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
    for _ in range(2):
        assert told in refused(folder).got


def test_a_store_of_an_earlier_release_opens(store: Path) -> None:
    """It has neither seal nor mark. A lost log is told all the same."""
    for name in ("diptych-seal.json", "diptych-mark"):
        (shard_of(store) / name).unlink(missing_ok=True)
    copy = store.with_name("copy")
    copied(store, copy)
    with EdgeClient(store) as client:
        assert client.count("docs").count == SIZE
    shutil.rmtree(shard_of(copy) / "wal")
    refused(copy)


def test_a_closed_store_has_an_empty_log(docs: EdgeClient) -> None:
    docs.close()
    logs = sum(path.stat().st_size for path in docs.path.glob("collections/*/*/wal/*"))
    assert logs < 1000
    with EdgeClient(docs.path) as again:
        assert again.count("docs").count == 4


def test_a_kill_while_the_log_is_begun_anew_loses_nothing(stores: Mapping[str, Path], tmp_path: Path) -> None:
    for number, left in enumerate((["wal.new"], ["wal.new", "wal.old"], ["wal.old"])):
        folder = tmp_path / str(number)
        copied(stores["closed"], folder)
        shard = shard_of(folder)
        copied(shard / "wal", shard / "wal.new")
        if "wal.old" in left:
            (shard / "wal").rename(shard / "wal.old")
        if "wal.new" not in left:
            (shard / "wal.new").rename(shard / "wal")
        with EdgeClient(folder) as client:
            assert client.count("docs").count == SIZE


class Disk:
    """Free space that a test decides on."""

    def __init__(self) -> None:
        self.free = 1 << 40

    def __call__(self, folder: Path) -> int:
        assert folder.exists()
        return self.free


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": made(Path(path))}))
    return made


def test_a_full_disk_is_told_at_opening_and_before_each_write(docs: EdgeClient, disk: Disk) -> None:
    """Edge would be killed by SIGBUS, and take the process with it."""
    disk.free = space.TO_WRITE - 1
    writes: dict[str, Callable[[], Any]] = {
        "upsert": lambda: docs.upsert("docs", [models.PointStruct(id=8, vector={}, payload={})]),
        "payload": lambda: docs.set_payload("docs", {"a": 1}, [1]),
        "delete": lambda: docs.delete("docs", [1]),
        "vector": lambda: docs.create_vector_name(
            "docs", "late", models.SparseVectorNameConfig(sparse=models.SparseVectorConfig())
        ),
    }
    for write in writes.values():
        with pytest.raises(
            StoreError, match=r"(?s)too little disk space to write.*32\.0 MiB free.*expected: 32"
        ) as error:
            write()
        assert error.value.context["free"] == disk.free
    assert docs.count("docs").count == 4
    disk.free = space.TO_READ - 1
    docs.close()
    with EdgeClient(docs.path) as again, pytest.raises(StoreError, match="too little disk space to open"):
        again.count("docs")
    disk.free = 1 << 40
    with EdgeClient(docs.path) as again:
        assert again.delete("docs", [1])
        assert again.count("docs").count == 3


def test_a_log_that_is_replayed_needs_more_space(stores: Mapping[str, Path], tmp_path: Path, disk: Disk) -> None:
    copied(stores["killed"], tmp_path / "store")
    disk.free = space.TO_OPEN - 1
    with EdgeClient(tmp_path / "store") as client, pytest.raises(StoreError, match="too little disk space to open"):
        client.count("docs")


FILL_A_DISK = """
    from diptych.errors import StoreError
    client = EdgeClient(folder)
    client.create_collection("docs", {"d": models.VectorParams(size=256, distance=models.Distance.DOT)})
    written = 0
    try:
        while True:
            points = [
                models.PointStruct.model_construct(id=i, vector={"d": np.full(256, 0.5)}, payload={"text": "x" * 2000})
                for i in range(written, written + 200)
            ]
            client.upsert("docs", points)
            written += 200
            print(written, flush=True)
    except StoreError as error:
        print("told", error.what, flush=True)
    client.close()
    with EdgeClient(folder) as again:
        print("kept", again.count("docs").count, flush=True)
    """


@contextmanager
def mounted(folder: Path, system: str) -> Iterator[None]:
    """A file system of 96 MB at a folder."""
    folder.mkdir()
    image = folder.with_name("image")
    image.touch()
    os.truncate(image, 96 << 20)
    kinds = {"tmpfs": "mount -t tmpfs -o size=96m tmpfs", "ext4": f"mkfs.ext4 -qm0 {image} && mount -o loop {image}"}
    if subprocess.run(f"{kinds[system]} {folder}", shell=True, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_in_an_error_and_not_in_a_signal(start: Start, folder: Path) -> None:
    with mounted(folder, "tmpfs"):
        writer = start(FILL_A_DISK)
        output, complaint = writer.communicate(timeout=300)
        lines = output.splitlines()
        assert writer.returncode == 0, complaint
        assert lines[-2] == "told too little disk space to write"
        assert lines[-1] == f"kept {lines[-3]}"


ASK = """
    from diptych.errors import StoreError
    try:
        with EdgeClient(folder) as client:
            print("found", len(client.query_points("docs", [1.0] * 16, using="d", limit=5).points))
    except StoreError as error:
        print(error.do)
    """


@pytest.mark.slow
@pytest.mark.parametrize(("system", "answer"), [("ext4", "found 5"), ("tmpfs", "move the store to a disk")])
def test_a_nearly_full_disk_can_be_searched_unless_reading_takes_room(
    system: str, answer: str, start: Start, folder: Path, stores: Mapping[str, Path]
) -> None:
    """On tmpfs the process would be killed: the holes of files that are read through a memory map take room there."""
    with mounted(folder, system):
        subprocess.run(["cp", "-r", "--sparse=always", f"{stores['closed']}/.", str(folder)], check=True)
        with (folder / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, shutil.disk_usage(folder).free - (2 << 20))
        reader = start(ASK)
        output, complaint = reader.communicate(timeout=300)
        assert (reader.returncode, output[: len(answer)]) == (0, answer), complaint


def test_a_large_write_needs_more_space(docs: EdgeClient, disk: Disk) -> None:
    points = [
        models.PointStruct(id=i, vector={"dense": [1.0] * 4}, payload={"text": "x" * 100_000}) for i in range(100)
    ]
    disk.free = space.TO_WRITE + (10 << 20)
    with pytest.raises(StoreError, match="too little disk space to write"):
        docs.upsert("docs", points)
    docs.upsert("docs", points[:5])


def repaired(store: Path) -> tuple[RepairReport, dict[Any, Any]]:
    """What the repair says, and what the collection holds afterwards."""
    with EdgeClient(store) as client:
        report = client.repair("docs")
        assert report is not None
        assert client.repair("docs") is None
        client.upsert("docs", [models.PointStruct(id=9000, vector={"d": [1.0] * 16}, payload={})])
    with EdgeClient(store) as client:
        records = client.scroll("docs", limit=10_000, with_vectors=True)[0]
        assert client.get_collection("docs").payload_schema.keys() == {"i"}
    assert 9000 in {record.id for record in records}
    return report, {record.id: record for record in records if record.id != 9000}


def content(store: Path, copy: Path) -> dict[Any, Any]:
    copied(store, copy)
    with EdgeClient(copy) as client:
        return {record.id: record for record in client.scroll("docs", limit=10_000, with_vectors=True)[0]}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["log", "version.info", "edge_config.json", "first-index"])
def test_a_repair_keeps_what_can_be_read(
    store: Path, tmp_path: Path, damage: str, request: pytest.FixtureRequest
) -> None:
    before = content(store, tmp_path / "copy")
    shard = shard_of(store)
    if damage == "log":
        shutil.rmtree(shard / "wal")
    elif damage == "version.info":
        for path in shard.glob("segments/*/version.info"):
            path.unlink()
    elif damage == "edge_config.json":
        (shard / "edge_config.json").write_text("{")
    else:
        (shard / "diptych-seal.json").unlink()
        (shard / "wal" / "first-index").write_text("no JSON")
    report, after = repaired(store)
    if damage == "log" and "killed" in request.node.name:  # what was in the log alone
        before = {identifier: record for identifier, record in before.items() if identifier in after}
    assert after == before
    assert report.points == len(after)
    assert report.expected in (None, SIZE)
    assert report.complete == (report.points == SIZE)
    assert [path.name for path in shard.parent.glob("shard-*")] == [shard_of(store).name]
    assert (report.kept is None) == report.complete


@pytest.mark.slow
def test_a_repair_of_a_collection_of_which_nothing_is_left_makes_an_empty_one(store: Path) -> None:
    shutil.rmtree(shard_of(store))
    with EdgeClient(store) as client:
        report = client.repair("docs")
        assert report is not None
        assert (report.points, report.expected, report.kept) == (0, None, None)
        assert client.count("docs").count == 0
        assert client.upsert("docs", [models.PointStruct(id=1, vector={"d": [1.0] * 16}, payload={})])


@pytest.mark.slow
def test_a_repair_reads_the_other_segments_where_one_cannot_be_read(store: Path) -> None:
    largest = max(shard_of(store).glob("segments/*"), key=lambda path: (path / "vector_index-d").exists())
    (largest / "segment.json").write_text("damaged")
    with EdgeClient(store) as client:
        report = client.repair("docs")
        assert report is not None
        assert report.points == client.count("docs").count == SIZE - 600
        assert report.expected == SIZE
        assert not report.complete
        assert report.kept is not None
        assert report.kept.is_dir()
        client.delete_collection("docs")
    assert not report.kept.exists()
