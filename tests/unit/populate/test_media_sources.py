"""Sources with media: named columns and keys, folders of pictures with captions. Files without them read as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.errors import PopulateError
from diptych.populate import Rejected, open_source
from diptych.populate.sources.open_source import Source
from diptych.populate.sources.readers import Row

ROWS = [
    {"id": "a", "text": "one", "photo": "0001", "image": "kept"},
    {"id": "b", "text": "two", "image": "kept"},
]


def rows(source: Source) -> list[dict[str, Any]]:
    found = list(source)
    assert all(isinstance(row, Row) and row.has_media for row in found)
    return [dict(row) for row in found if isinstance(row, dict)]


@pytest.fixture(params=["jsonl", "csv", "parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"rows.{request.param}"
    if request.param == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif request.param == "csv":
        path.write_text("id,text,photo,image\na,one,0001,kept\nb,two,,kept\n")
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


def test_the_cells_of_a_named_column_are_media_and_other_columns_stay_metadata(table: Path) -> None:
    assert rows(open_source(table, media={"photo": "image"})) == [
        {"id": "a", "text": "one", "media": {"image": "0001"}, "image": "kept"},
        {"id": "b", "text": "two", "media": {}, "image": "kept"},
    ]


def test_a_column_called_image_is_metadata_unless_it_is_named(table: Path) -> None:
    plain = list(open_source(table))
    assert [row["image"] for row in plain if isinstance(row, dict)] == ["kept", "kept"]
    assert not any(isinstance(row, Row) and row.has_media for row in plain)
    assert rows(open_source(table, media={"image": "image"}))[1]["media"] == {"image": "kept"}


def test_a_named_column_that_is_missing_is_an_error(table: Path) -> None:
    with pytest.raises(PopulateError, match=r"no column 'phot'[^$]*--media phot=image[^$]*photo"):
        open_source(table, media={"phot": "image"})


def test_with_media_no_text_is_required(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,photo\na,a.png\n")
    with pytest.raises(PopulateError, match="no text column"):
        open_source(path)
    assert rows(open_source(path, media={"photo": "image"})) == [{"id": "a", "media": {"image": "a.png"}}]
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"id": "a", "media": {"image": "a.png"}}\n')
    assert [dict(row) for row in open_source(lines) if isinstance(row, dict)] == [json.loads(lines.read_text())]


def test_named_columns_join_the_media_of_a_json_object(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"id": "a", "text": "x", "media": {"sound": "a.wav"}, "photo": "a.png"})
        + "\n"
        + json.dumps({"id": "b", "text": "x", "media": "cd"})
    )
    found = rows(open_source(path, media={"photo": "image"}))
    assert [row["media"] for row in found] == [{"sound": "a.wav", "image": "a.png"}, {}]


def test_of_pictures_as_hugging_face_stores_them_the_bytes_are_taken_or_the_path(tmp_path: Path) -> None:
    struct = [{"bytes": b"\x89PNG", "path": "a.png"}, {"bytes": None, "path": "b.png"}, None]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": ["x", "y", "z"], "image": struct}), path)
    found = rows(open_source(path, media={"image": "image"}))
    assert [row["media"] for row in found] == [{"image": b"\x89PNG"}, {"image": "b.png"}, {}]


def test_bad_modalities_are_refused(table: Path) -> None:
    with pytest.raises(PopulateError, match=r"unknown modality of a column[^$]*'picture'[^$]*image, sound"):
        open_source(table, media={"photo": "picture"})
    with pytest.raises(PopulateError, match="a modality has several columns"):
        open_source(table, media={"photo": "image", "image": "image"})


def test_a_folder_of_pictures_is_a_source_with_captions(tmp_path: Path) -> None:
    for name in ("b/cat.PNG", "a.jpg", ".hidden.png", "notes.md", "clip.mp4", "sound.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "b" / "cat.txt").write_text("\ufeffa cat\n")
    source = open_source(tmp_path, format="image")
    assert rows(source) == [
        {"id": "a.jpg", "text": "", "media": {"image": str(tmp_path / "a.jpg")}},
        {"id": "b/cat.PNG", "text": "a cat", "media": {"image": str(tmp_path / "b/cat.PNG")}},
    ]
    assert len(source) == 2  # type: ignore[arg-type]
    assert [row["id"] for row in rows(open_source(tmp_path, format="sound"))] == ["sound.wav"]
    assert [row["id"] for row in rows(open_source(tmp_path / "a.jpg", format="image"))] == ["a.jpg"]


def test_a_caption_that_is_no_text_rejects_its_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    (rejected,) = open_source(tmp_path, format="image")
    assert isinstance(rejected, Rejected)
    assert rejected.id == "a.png"
    assert "unreadable text in a.txt" in rejected.reason


def test_a_picture_without_its_format_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.gif").touch()
    with pytest.raises(PopulateError, match=r"--format image \| video"):
        open_source(tmp_path / "a.gif")
    with pytest.raises(PopulateError, match="files have no columns"):
        open_source(tmp_path, format="image", media={"a": "image"})
