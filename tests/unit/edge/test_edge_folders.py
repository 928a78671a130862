from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from qdrant_client import models

from diptych.errors import StoreError
from diptych_edge import EdgeClient, SharedEdgeClient

DOT = models.VectorParams(size=2, distance=models.Distance.DOT)


def tree(folder: Path) -> dict[str, bytes | None]:
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def server_storage(root: Path, collection: str) -> None:
    home = root / "collections" / collection
    (home / "0" / "segments").mkdir(parents=True)
    (home / "config.json").write_text("data")
    (home / "0" / "segments" / "data").write_text("data")


def empty_server(folder: Path) -> None:
    folder.mkdir()
    (folder / "raft_state.json").write_text("{}")


def lock_that_is_a_folder(folder: Path) -> None:
    (folder / ".lock").mkdir(parents=True)


def collections_that_are_a_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "collections").write_text("a user's")


def file(folder: Path) -> None:
    folder.write_text("a user's")


FOREIGN: dict[str, tuple[Callable[[Path], object], str, str]] = {  # what is there, the path to open, what is told
    "a server": (lambda folder: server_storage(folder, "mydocs"), "", "holds something other.*mydocs.*another path"),
    "a server's name like ours": (
        lambda folder: server_storage(folder, "docs-0123456789ab"), "", "collections/docs-0123456789ab.*another path"
    ),
    "an empty server": (empty_server, "", r"got: raft_state\.json.*store: http"),
    "a file": (file, "", "cannot be opened.*edge.*Error.*choose another path"),
    "in a file": (file, "store", "cannot be opened.*edge.*Error.*choose another path"),
    "a lock": (lock_that_is_a_folder, "", r"cannot be opened.*IsADirectoryError.*\.lock"),
    "a file of collections": (collections_that_are_a_file, "", "cannot be opened.*collections"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_store_is_refused_and_left_as_it_was(folder: Path, case: str) -> None:
    make, inside, told = FOREIGN[case]
    make(folder)
    before = tree(folder)
    for client in (EdgeClient, SharedEdgeClient):
        with pytest.raises(StoreError, match=f"(?s){told}"):
            client(folder / inside)
    assert {**tree(folder), **before} == tree(folder)
    assert tree(folder).keys() - before.keys() <= {"collections"}, "an empty folder beside a lock"
    assert not folder.is_file() or folder.read_text() == "a user's"


def test_files_of_others_beside_the_collections_do_no_harm(docs: EdgeClient) -> None:
    docs.close()
    for place in (docs.path, docs.path / "collections", next(docs.path.glob("collections/*"))):
        (place / ".DS_Store").write_text("a file manager's")
        (place / "notes.txt").write_text("a user's")
    with EdgeClient(docs.path) as again:
        assert again.count("docs").count == 4
        again.recreate_collection("docs", DOT)
    assert len(list(docs.path.rglob(".DS_Store"))) == len(list(docs.path.rglob("notes.txt"))) == 3


def test_a_collection_that_lost_its_record_keeps_its_data_and_says_so(docs: EdgeClient) -> None:
    docs.create_collection("other", DOT)
    alias = models.CreateAlias(collection_name="docs", alias_name="latest")
    docs.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    docs.close()
    record = next(docs.path.glob("collections/docs-*/collection.json"))
    kept = record.read_text()
    record.unlink()
    before = tree(record.parent)
    with EdgeClient(docs.path) as again:
        assert again.count("other").count == 0
        for call in (again.count, again.collection_exists, again.delete_collection):
            with pytest.raises(StoreError, match=r"(?s)lost its collection\.json.*docs-.*restore collection\.json"):
                call("docs")
        with pytest.raises(StoreError, match=r"lost its collection\.json"):
            again.count("latest")
        with pytest.raises(StoreError, match=r"lost its collection\.json"):
            again.create_collection("docs", DOT)
    assert tree(record.parent) == before
    record.write_text(kept)
    with EdgeClient(docs.path) as again:
        assert again.count("latest").count == 4


def test_data_that_an_outdated_record_does_not_name_are_kept(docs: EdgeClient) -> None:
    docs.close()
    record = next(docs.path.glob("collections/docs-*/collection.json"))
    content = record.read_text()
    outdated = {**json.loads(content), "shard": "shard-000000000000"}
    del outdated["checksum"]
    record.write_text(json.dumps(outdated))
    with EdgeClient(docs.path) as again, pytest.raises(StoreError, match="folder is missing"):
        again.count("docs")
    record.write_text(content)
    with EdgeClient(docs.path) as again:
        assert again.count("docs").count == 4


@pytest.mark.parametrize("left", [[], ["unfinished.tmp"], ["unfinished.json"], ["unfinished.json", "shard-1/data"]])
def test_what_a_kill_leaves_of_a_creation_or_deletion_is_removed(docs: EdgeClient, left: list[str]) -> None:
    docs.close()
    half = docs.path / "collections" / "half-0123456789ab"
    (half / "shard-0").mkdir(parents=True)
    for name in left:
        (half / name).parent.mkdir(exist_ok=True)
        (half / name).write_text("{}")
    with EdgeClient(docs.path) as again:
        assert [found.name for found in again.get_collections().collections] == ["docs"]
    assert not half.exists()


def test_a_collection_can_be_made_where_a_failed_one_left_its_folder(client: EdgeClient) -> None:
    client.create_collection("a", DOT)
    place = next(client.path.glob("collections/*"))
    client.delete_collection("a")
    place.mkdir()
    client.create_collection("a", DOT)
    assert client.count("a").count == 0


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system in which nothing can be made")
def test_a_path_where_no_folder_can_be_made_is_told() -> None:
    with pytest.raises(StoreError, match=r"(?s)cannot be opened.*edge:/proc/diptych.*Error.*can be written"):
        SharedEdgeClient("/proc/diptych")


@pytest.mark.parametrize("place", ["nowhere", "folder", "file"])
def test_a_store_is_not_made_unless_wanted(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("a user's")
    before = tree(tmp_path)
    with pytest.raises(StoreError, match=rf"(?s)there is no embedded store here.*edge:.*{place}.*check the path"):
        EdgeClient(tmp_path / place, create=False)
    assert tree(tmp_path) == before


def test_a_store_that_is_there_opens_without_making_one(docs: EdgeClient) -> None:
    docs.close()
    with EdgeClient(docs.path, create=False) as again:
        assert again.count("docs").count == 4
