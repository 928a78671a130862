"""The estimated need of a run is near what it takes, and a run that cannot end writes nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.errors import StoreFull
from diptych.populate import disk_room
from diptych.populate.disk_room import point_bytes, require_room_to_fill, with_room
from diptych.populate.sources.open_source import open_source
from diptych.populate.validate import Item
from diptych.testing import fakes_plugin
from diptych.types import Document
from diptych_edge.health.wal import allocated

COUNT = 800
SLOTS = {"dense": ["fake-dense"], "sparse": ["fake-sparse"], "tokens": ["fake-multivector"]}


def documents(words: int) -> list[Document]:
    chance = random.Random(words)
    texts = (" ".join(f"word{chance.randrange(3000)}" for _ in range(words)) for _ in range(COUNT))
    return [Document(f"d{number}", text, metadata={"n": number}) for number, text in enumerate(texts)]


def opened(folder: Path, adapters: list[str]) -> Collection:
    slots = {f"slot{number}": {"adapter": adapter} for number, adapter in enumerate(adapters)}
    config = {"store": f"edge:{folder}", "collection": "docs", "slots": slots, "cache": {"enabled": False}}
    return Collection.open(parse_config(config), registry=Registry(fakes_plugin, installed=False))


@pytest.mark.parametrize("words", [20, 400])
@pytest.mark.parametrize("kind", list(SLOTS))
def test_the_estimated_size_of_points_is_near_what_they_take(on_disk: Path, kind: str, words: int) -> None:
    given = documents(words)
    with opened(on_disk / "store", SLOTS[kind]) as collection:
        collection.populate(given)
        estimated = COUNT * point_bytes(given[: disk_room.SAMPLE], collection.handle.slots)
    taken = allocated(on_disk / "store")
    assert 1 / 3 < estimated / taken < 3


def test_a_run_that_the_disk_has_no_room_for_is_refused_before_it_begins(tmp_path: Path) -> None:
    given = documents(20)
    items = [Item(found, "", found.text, number, number) for number, found in enumerate(given)]
    with opened(tmp_path / "store", SLOTS["dense"]) as collection:
        handle = collection.handle
        assert list(with_room(handle, given, COUNT, iter(items))) == items
        with pytest.raises(StoreFull, match=r"(?s)to populate 1,000,000,000,000 documents.*expected: [0-9,.]+ MiB"):
            next(with_room(handle, given, 10**12, iter(items)))
        collection.populate(given[:10])
        (slot,) = handle.slots.values()
        with pytest.raises(StoreFull, match="to fill new vectors of 1,000,000,000,000 points"):
            require_room_to_fill(handle, slot, 10**12)
        require_room_to_fill(handle, slot, 10)


def test_the_size_of_a_file_tells_how_many_documents_it_may_hold(tmp_path: Path) -> None:
    path = tmp_path / "source.jsonl"
    lines = [json.dumps({"id": found.id, "text": found.text, **found.metadata}) for found in documents(50)]
    path.write_text("\n".join(lines))
    assert COUNT / 2 < disk_room._count_of(open_source(path), documents(50)[: disk_room.SAMPLE]) < COUNT * 2
    assert disk_room._count_of(iter([]), documents(50)[:7]) == 7
