"""References are stored for the media that a payload names at that moment, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from diptych.media import Media, MediaConfig, MediaStore
from diptych.metadata.payloads import Layout
from diptych.populate.store import reference_warnings, store_references

LAYOUT = Layout(text="text", title=None, id=None, origin="by hand", media={"image": "data.file"})


class Meanwhile(MediaStore):
    """A store of media that does something after it has read the first of them."""

    then: Callable[[], object] | None = None

    def take(self, modality: str, raw: Any) -> Media:
        media = super().take(modality, raw)
        if self.then:
            self.then()
            self.then = None
        return media


@pytest.fixture
def store(tmp_path: Path) -> Meanwhile:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((2, 4 if name == "a" else 5, 3), np.uint8))
    return Meanwhile(MediaConfig(root=str(tmp_path)), tmp_path)


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    opened = QdrantClient(":memory:")
    opened.create_collection("c", models.VectorParams(size=1, distance=models.Distance.DOT))
    yield opened
    opened.close()


def write(client: QdrantClient, point: int, file: Any) -> None:
    payload = {"data": {"file": file}, "text": "about it"} if file is not None else {"text": "a note"}
    client.upsert("c", [models.PointStruct(id=point, vector=[1.0], payload=payload)])


def noted(client: QdrantClient) -> dict[int, str]:
    points = {int(point.id): point.payload or {} for point in client.scroll("c", limit=500)[0]}
    own = {point: payload["_diptych"]["media"]["image"] for point, payload in points.items() if "_diptych" in payload}
    return {point: item["source"] for point, item in own.items()}


def test_each_point_that_names_media_gets_its_reference_once(client: QdrantClient, store: Meanwhile) -> None:
    for point in range(150):
        write(client, point, "a.npy" if point % 2 else None)
    write(client, 200, "")
    assert reference_warnings(client, "c", LAYOUT)[0].startswith("75 points name image media under 'data.file'")
    result = store_references(client, "c", LAYOUT, store)
    assert (result.stored, result.warnings()) == ({"image": 75}, [])
    assert noted(client) == {point: "a.npy" for point in range(150) if point % 2}
    assert store_references(client, "c", LAYOUT, store).stored == {}
    assert reference_warnings(client, "c", LAYOUT) == []


def test_a_point_that_names_another_file_by_then_or_is_gone_waits_for_the_next_call(
    client: QdrantClient, store: Meanwhile
) -> None:
    for point in (1, 2, 3):
        write(client, point, "a.npy")

    def meanwhile() -> None:
        write(client, 1, "b.npy")
        client.delete("c", [2])

    store.then = meanwhile
    store_references(client, "c", LAYOUT, store)
    assert noted(client) == {3: "a.npy"}
    store_references(client, "c", LAYOUT, store)
    assert noted(client) == {1: "b.npy", 3: "a.npy"}


def test_files_that_cannot_be_read_are_counted_and_three_of_them_named(client: QdrantClient, store: Meanwhile) -> None:
    for point, file in enumerate(["gone.npy", "../b.npy", 7, {"x": 1}, "a.npy"]):
        write(client, point, file)
    result = store_references(client, "c", LAYOUT, store)
    assert (result.stored, result.unreadable, len(result.reasons)) == ({"image": 1}, 4, 3)
    (warning,) = result.warnings()
    assert warning.startswith("media of 4 points cannot be read, so that no other encoder can encode them: 0: ")
