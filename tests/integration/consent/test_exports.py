"""Exports from somebody else: a header that lies is refused with a reason, and nothing is left behind."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection, Registry
from diptych.copying import export_collection, import_collection
from diptych.errors import DiptychError
from diptych.stores import open_store

INDEXES: list[Any] = [1, None, "nothing", {"type": 3}, {"type": "text", "lowercase": "maybe"}, []]
PLACES = ["collection", "points", "vectors", "info", "indexes", "format"]
WRONG: list[Any] = [None, -1, 1.5, "", [], [1], {"a": 1}, "x\0y", "../up", True, 10**400]


@pytest.fixture
def lines(tmp_path: Path, fakes: Registry) -> list[str]:
    slots = {"dense": {"adapter": "fake-dense", "dimension": 4}}
    config = {"store": f"edge:{tmp_path}/source", "collection": "c", "slots": slots}
    with Collection.open(config, registry=fakes) as collection:
        collection.populate([{"id": "1", "text": "word"}])
        export_collection(collection.handle, tmp_path / "whole.jsonl", vectors=True)
    return (tmp_path / "whole.jsonl").read_text().splitlines()


def wrong_headers(header: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for place in PLACES:
        for value in WRONG:
            yield {"diptych": {**header["diptych"], place: value}}
        yield {"diptych": {key: value for key, value in header["diptych"].items() if key != place}}
    for index in INDEXES:
        yield {"diptych": {**header["diptych"], "indexes": {"field": index}}}
    for path in (["config"], ["config", "params"], ["config", "params", "vectors"], ["config", "metadata"], ["status"]):
        for value in (3, "x", [], [[]]):
            changed = copy.deepcopy(header)
            part = changed["diptych"]["info"]
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = value
            yield changed


def test_a_header_that_lies_is_refused_or_imported_and_never_an_unexpected_error(
    lines: list[str], tmp_path: Path
) -> None:
    file, unexpected = tmp_path / "gift.jsonl", []
    for number, header in enumerate(wrong_headers(json.loads(lines[0]))):
        file.write_text("\n".join([json.dumps(header), *lines[1:]]))
        client = open_store("memory:")
        try:
            import_collection(client, file, report_path=tmp_path / "report.jsonl")
        except DiptychError:
            pass
        except Exception as error:  # what a command calls unexpected
            unexpected.append((number, header["diptych"].keys() and str(header)[:80], repr(error)[:200]))
        finally:
            client.close()
    assert unexpected == []


def test_a_name_that_is_refused_leaves_no_folder(lines: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    client = open_store(f"edge:{store}", create=True)
    before = sorted(store.rglob("*"))
    for name in ("a/b", "..", "x" * 300, "a\0b", "../up"):
        with pytest.raises(DiptychError):
            import_collection(client, tmp_path / "whole.jsonl", name)
    assert sorted(store.rglob("*")) == before
    assert not (tmp_path / "up").exists()
    client.close()


def test_numbers_that_do_not_fit_into_32_bits_are_rejected(lines: list[str], tmp_path: Path) -> None:
    for value in (1e308, 10**400, -1e39):
        point = json.loads(lines[1])
        point["vectors"]["dense.1"][0] = value
        (tmp_path / "gift.jsonl").write_text("\n".join([lines[0], json.dumps(point)]))
        client = open_store("memory:")
        report = import_collection(client, tmp_path / "gift.jsonl", report_path=tmp_path / "report.jsonl")
        assert (report.written, report.set_aside) == (0, 1)
        client.close()


def test_a_compressed_export_that_is_cut_off_says_so(lines: list[str], tmp_path: Path) -> None:
    whole = gzip.compress("\n".join(lines).encode())
    for length in (1, 5, 12, 30, len(whole) // 2, len(whole) - 4):
        (tmp_path / "gift.jsonl.gz").write_bytes(whole[:length])
        client = open_store("memory:")
        with pytest.raises(DiptychError):
            import_collection(client, tmp_path / "gift.jsonl.gz", report_path=tmp_path / "report.jsonl")
        client.close()
