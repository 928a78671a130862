from __future__ import annotations

import json
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


@pytest.mark.parametrize("collection", ["mydocs", "docs-0123456789ab"])
def test_the_storage_of_a_server_is_refused_and_left_as_it_was(folder: Path, collection: str) -> None:
    server_storage(folder, collection)
    before = tree(folder)
    with pytest.raises(StoreError, match=rf"(?s)holds something other.*collections/{collection}.*another path"):
        SharedEdgeClient(folder)
    assert tree(folder) == before


def test_an_empty_storage_of_a_server_is_refused_too(folder: Path) -> None:
    folder.mkdir()
    (folder / "raft_state.json").write_text("{}")
    with pytest.raises(StoreError, match=r"(?s)got: raft_state\.json.*store: http"):
        EdgeClient(folder)
    assert list(tree(folder)) == ["raft_state.json"]


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


def test_a_record_with_a_changed_byte_is_told(docs: EdgeClient) -> None:
    docs.close()
    record = next(docs.path.glob("collections/docs-*/collection.json"))
    record.write_text(record.read_text().replace('"docs"', '"dogs"'))
    with pytest.raises(StoreError, match=r"(?s)is damaged.*collection\.json.*checksum"):
        EdgeClient(docs.path)


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


@pytest.mark.parametrize("inside", ["", "/store"])
def test_a_path_that_is_a_file_or_lies_in_one_is_told(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("a user's")
    with pytest.raises(StoreError, match=r"(?s)cannot be opened.*edge:.*file.*Error.*choose another path"):
        SharedEdgeClient(f"{tmp_path}/file{inside}")
    assert (tmp_path / "file").read_text() == "a user's"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system in which nothing can be made")
def test_a_path_where_no_folder_can_be_made_is_told() -> None:
    with pytest.raises(StoreError, match=r"(?s)cannot be opened.*edge:/proc/diptych.*Error.*can be written"):
        SharedEdgeClient("/proc/diptych")


def test_a_lock_that_cannot_be_opened_is_told(folder: Path) -> None:
    (folder / ".lock").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"(?s)cannot be opened.*IsADirectoryError.*\.lock"):
        EdgeClient(folder)


def test_collections_that_are_a_file_are_told(folder: Path) -> None:
    folder.mkdir()
    (folder / "collections").write_text("a user's")
    with pytest.raises(StoreError, match=r"(?s)cannot be opened.*collections"):
        EdgeClient(folder)


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
