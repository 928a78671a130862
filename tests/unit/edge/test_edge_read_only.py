"""A store that is only read: where nothing can be written, and beside others that read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from qdrant_client import models

from diptych.errors import CollectionNotFound, StoreLocked, StoreReadOnly
from diptych_edge import EdgeClient, ReadOnlyEdgeClient
from diptych_edge.client.read_only import WRITES

NOBODY = 65534


@pytest.fixture
def image(docs: EdgeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a store with the collection `docs` and the alias `old`, which was closed."""
    target = models.CreateAlias(collection_name="docs", alias_name="old")
    docs.update_collection_aliases([models.CreateAliasOperation(create_alias=target)])
    docs.close()
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    return docs.path


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_it_answers_as_the_store_does_and_leaves_every_file_as_it_was(image: Path, tmp_path: Path) -> None:
    with EdgeClient(image) as client:
        wanted = client.query_points("docs", [1.0, 2.0, 0.0, 0.0], using="dense", with_payload=True)
    before = state(image)
    with ReadOnlyEdgeClient(image) as one, ReadOnlyEdgeClient(image) as other:
        for client in (one, other):
            assert client.query_points("old", [1.0, 2.0, 0.0, 0.0], using="dense", with_payload=True) == wanted
        assert not one.needs_optimizing("docs")
        with pytest.raises(CollectionNotFound, match=rf"(?s)no collection 'none'.*edge:{image}"):
            one.count("none")
    assert state(image) == before
    assert list((tmp_path / "copies").iterdir()) == []


@pytest.mark.parametrize("name", WRITES)
def test_a_call_that_would_change_it_is_refused(image: Path, name: str) -> None:
    with ReadOnlyEdgeClient(image) as client, pytest.raises(StoreReadOnly, match=rf"{name}\(\) would change a store"):
        getattr(client, name)("docs")


def test_every_call_that_writes_is_known(image: Path) -> None:
    reads = {
        "changed_files", "close", "collection_exists", "count", "disk_use", "facet", "get_aliases", "get_collection",
        "get_collection_aliases", "get_collections", "get_metadata", "get_optimizations", "info", "migrate",
        "needs_optimizing", "over", "query_batch_points", "query_points", "query_points_groups", "require_room",
        "retrieve", "scroll", "search_matrix_offsets", "search_matrix_pairs",
    }  # fmt: skip
    refused = {name for name in dir(EdgeClient) if "Take a server" in (getattr(EdgeClient, name).__doc__ or "")}
    public = {name for name in dir(EdgeClient) if not name.startswith("_") and callable(getattr(EdgeClient, name))}
    assert public - refused - reads == set(WRITES)


def test_a_store_that_is_open_for_writing_is_not_read_beside_its_engine(image: Path) -> None:
    with EdgeClient(image), pytest.raises(StoreLocked, match=r"(?s)open for writing.*without mode=ro"):
        ReadOnlyEdgeClient(image)


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_it_works_in_a_folder_that_cannot_be_written(
    image: Path, tmp_path: Path, let_others_in: Callable[[Path], None]
) -> None:
    for path in (image, *image.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (tmp_path / "copies").chmod(0o777)
    let_others_in(tmp_path)

    def read() -> int:
        with ReadOnlyEdgeClient(image) as client:
            return client.count("docs").count

    def write() -> int:
        EdgeClient(image)
        return 0

    assert as_nobody(read) == 4
    assert as_nobody(write) == 99, "else the test shows nothing"


def as_nobody(act: Callable[[], int]) -> int:
    """What `act` returns in a process of a user who owns nothing; 99 where it fails."""
    child = os.fork()
    if not child:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            os._exit(act())
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
