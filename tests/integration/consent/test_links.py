"""Links, pipes and devices in folders from somebody else are refused: none is written through, none is waited for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych.errors import DiptychError, EvaluationError, StoreError
from diptych.evaluate import Qrels, read_queries
from diptych.populate import open_source
from diptych.registry import Registry
from diptych.types import Query
from diptych_edge import EdgeClient
from diptych_lab.judge import Judgements
from diptych_lab.judge.judgements import noted_collections, stored_queries, write_queries

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes of POSIX")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        folder = os.open(path.parent, os.O_RDONLY)  # a socket's own path has some 100 characters at most
        made.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


@pytest.fixture(params=[pipe, device, bound])
def put(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], None]]:
    """Puts something that is no regular file at a path; whoever waits for it is woken by an error."""

    def late(*_: Any) -> None:
        raise TimeoutError("it waits for ever")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield request.param
    signal.alarm(0)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of the user's, outside of the gift."""
    path = tmp_path / "own.txt"
    path.write_text("12345 kept")
    (tmp_path / "gift").mkdir()
    return path


def test_a_lock_that_is_a_link_is_not_followed(own: Path, tmp_path: Path) -> None:
    (tmp_path / "gift" / ".lock").symlink_to(own)
    with pytest.raises(StoreError, match="symbolic links"):
        EdgeClient(tmp_path / "gift")
    assert own.read_text() == "12345 kept"


def test_a_lock_that_is_a_pipe_is_refused(own: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gift" / ".lock")
    with pytest.raises(StoreError, match="regular file"):
        EdgeClient(tmp_path / "gift")


@pytest.mark.parametrize(("folder", "lock"), [(0o700, 0o600), (0o755, 0o600), (0o775, 0o660), (0o777, 0o660)])
def test_only_those_who_may_write_to_a_store_can_read_its_lock_even_one_of_an_earlier_release(
    folder: int, lock: int, tmp_path: Path
) -> None:
    tmp_path.chmod(folder)
    for earlier in (None, 0o644):
        if earlier is not None:
            (tmp_path / ".lock").chmod(earlier)
        EdgeClient(tmp_path).close()
        assert (tmp_path / ".lock").stat().st_mode & 0o777 == lock


def test_a_lock_that_would_belong_to_another_group_than_its_folder_is_its_users_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    EdgeClient(tmp_path).close()
    try:
        os.chown(tmp_path / ".lock", -1, next(group for group in (*os.getgroups(), 12345) if group != os.getgid()))
    except PermissionError:
        pytest.skip("this user has one group")
    EdgeClient(tmp_path).close()
    assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o600


def test_a_log_of_judgements_that_is_a_link_is_neither_read_nor_written(own: Path, tmp_path: Path) -> None:
    (tmp_path / "gift" / "judgements.jsonl").symlink_to(own)
    with pytest.raises(EvaluationError):
        Judgements(tmp_path / "gift")
    assert own.read_text() == "12345 kept"


def test_judgements_are_not_written_through_linked_files_and_folders(own: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gift"
    (folder / f".queries.jsonl.{os.getpid()}.part").symlink_to(own)
    with pytest.raises(OSError, match="symbolic links"):
        write_queries(folder, [Query("q", "text")])
    assert own.read_text() == "12345 kept"


MODELS: list[tuple[str, dict[str, str]]] = [
    *((name, {}) for name in ("sentence-transformers", "fastembed", "static", "cross-encoder", "uni-encoder")),
    ("sentence-transformers", {"modality": "image-text"}),
]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "modules.json", "0_T/a.txt"])
@pytest.mark.parametrize(("adapter", "choice"), MODELS)
def test_a_models_folder_holds_regular_files_alone(
    put: Callable[[Path], None], adapter: str, choice: dict[str, str], name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    (folder / name).parent.mkdir(parents=True)
    put(folder / name)
    with pytest.raises(DiptychError, match="regular file"):
        Registry().create(adapter, {"model": str(folder), **choice})


JUDGED: list[tuple[str, Callable[[Path], Any]]] = [
    ("queries.jsonl", lambda folder: read_queries(folder / "queries.jsonl")),
    ("queries.jsonl", lambda folder: stored_queries(folder / "queries.jsonl")),
    ("test.tsv", lambda folder: Qrels.read(folder / "test.tsv")),
    ("manifest.json", noted_collections),
    ("judgements.jsonl", Judgements),
]


@pytest.mark.parametrize(("name", "read"), JUDGED)
def test_a_folder_of_judgements_holds_regular_files_alone(
    put: Callable[[Path], None], name: str, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    put(tmp_path / name)
    with pytest.raises(EvaluationError):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet", "a.txt", "a.pdf", "corpus.jsonl"])
def test_documents_come_from_regular_files_and_folders(put: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    put(tmp_path / name)
    with pytest.raises(DiptychError, match="diptych populate -"):
        list(open_source(tmp_path / name))
    if name != "corpus.jsonl":
        assert list(open_source(tmp_path)) == []


@pytest.mark.parametrize("name", ["collection.json", "shard*/edge_config.json", "shard*/wal/*", "aliases.json"])
def test_an_embedded_store_holds_regular_files_alone(put: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", {"d": models.VectorParams(size=2, distance=models.Distance.DOT)})
        client.upsert("c", [models.PointStruct(id=1, vector={"d": [1.0, 0.0]})])
    folder = tmp_path if name == "aliases.json" else next((tmp_path / "collections").iterdir())
    path = next(folder.glob(name), folder / name)
    path.unlink(missing_ok=True)
    put(path)
    with pytest.raises(StoreError), EdgeClient(tmp_path) as client:
        client.count("c")
