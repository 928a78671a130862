"""Tables and folders of pictures, by the command line and from Python, and pictures as queries of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from colour_plugin import COLOURS
from diptych import Collection, Document, Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.populate import open_source

Run = Callable[..., Result]
IDS = (*COLOURS, "half", "note")


@pytest.fixture
def run(
    config: Callable[..., dict[str, Any]], colours: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs a command in a folder with the config of words and pictures."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diptych.yaml").write_text(json.dumps(config()))

    def call(*arguments: object, code: int = 0) -> Result:
        done = CliRunner().invoke(app, [str(part) for part in arguments], obj=Session(colours))
        assert done.exit_code == code, done.output
        return done

    return call


def test_a_folder_of_pictures_becomes_documents_with_captions(run: Run, pictures: Path) -> None:
    (pictures / "red.txt").write_text("the setting sun\n")
    (pictures / "words.png").write_text("no picture")
    said = run("populate", "pictures", "--format", "image", code=3)
    assert "words.png: diptych cannot read this picture (image 'words.png') (got text bytes)" in said.output
    assert "5 new" in said.output
    assert run("search", "sun", "-n", 1).stdout.split("\t")[3:] == ["red.png", "the setting sun\n"]
    assert "5 unchanged" in run("populate", "pictures", "--format", "image", code=3).output


def test_the_columns_of_a_table_are_pictures(run: Run, pictures: Path, tmp_path: Path) -> None:
    table = "id,text,photo,image\nr,warm,red.png,01\nb,cold,blue.png,02\nn,none,,03\nx,gone,../store/x,04\n"
    (tmp_path / "table.csv").write_text(table)
    said = run("populate", "table.csv", "--media", "photo=image", code=3)
    assert "x: the media file does not exist" in said.output
    (query,) = json.loads(run("search", "--image", pictures / "blue.png", "--json").stdout)["queries"]
    assert query["hits"][0]["id"] == "b"
    assert query["hits"][0]["media"]["image"]["source"] == "blue.png"
    assert query["hits"][0]["metadata"] == {"image": "02"}
    assert "got: 'photo'" in run("populate", "table.csv", "--media", "photo", code=1).output
    assert "no column 'phot'" in run("populate", "table.csv", "--media", "phot=image", code=1).output


def test_a_forgotten_media_column_takes_no_pictures_away(run: Run, tmp_path: Path) -> None:
    table = "id,text,photo\nr,warm,red.png\nb,cold,blue.png\nn,none,\n"
    (tmp_path / "table.csv").write_text(table)
    run("populate", "table.csv", "--media", "photo=image")
    refused = run("populate", "table.csv", code=1).output
    assert "2 of 2 documents read so far would lose their image" in refused
    assert "--media COLUMN=image" in refused
    assert "--drop-media" in refused
    assert "0 documents were acknowledged" in refused
    assert run("search", "--image", tmp_path / "pictures" / "red.png", "-n", 1).stdout.split("\t")[3] == "r"
    assert "populate would be refused: 2 of 2" in " ".join(run("populate", "table.csv", "--dry-run").output.split())
    assert "3 unchanged" in run("populate", "table.csv", "--media", "photo=image").output
    dropped = " ".join(run("populate", "table.csv", "--drop-media").output.split())
    assert "2 of the documents read have lost their image, which the source does not give: r, b" in dropped


def test_pictures_anywhere_can_be_queries_of_the_command_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"id": name, "media": {"image": f"{name}.png"}}) + "\n" for name in COLOURS)
    )
    run("populate", "rows.jsonl")
    (tmp_path / "elsewhere.png").write_bytes((tmp_path / "pictures" / "green.png").read_bytes())
    for option in ("--image=elsewhere.png", "--media=image=elsewhere.png"):
        line = run("search", option, "-n", 1).stdout.split("\t")
        assert (line[0], line[3], line[4]) == ("", "green", "image 'green.png'\n")
    assert run("search", "blue", "--image", "elsewhere.png", "--only", "picture").stdout.count("\n") == len(COLOURS)
    assert json.loads(run("info", "--id", "green").stdout)["media"] == {"image": "image 'green.png'"}
    assert "cannot be read" in run("search", "--image", "nothing.png", code=1).output
    assert "cannot read this picture" in run("search", "--image", "rows.jsonl", code=1).output
    whole = (tmp_path / "elsewhere.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
    assert "where: broken.png" in run("search", "--image", "broken.png", code=1).output
    assert "where: broken.png" in run("search", "--explain", "--image", "broken.png", code=1).output
    assert "--like and --unlike go with words or a picture" in run("search", "--like", "red", code=1).output
    assert "names a modality twice" in run("search", "--image=elsewhere.png", "--media=image=b.png", code=1).output


def test_a_table_without_slots_of_pictures_keeps_named_media_and_leaves_others_metadata(
    config: Callable[..., dict[str, Any]], colours: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "r", "text": "warm", "photo": "red.png", "media": {"image": "blue.png"}}\n')
    with Collection.open(config(slots={"lexical": {"adapter": "bm25"}}), registry=colours) as texts:
        texts.populate(open_source(path))
        found = {"photo": "red.png", "media": {"image": "blue.png"}}
        assert texts.get(["r"]) == [Document("r", "warm", metadata=found)]
        texts.populate(open_source(path, media={"photo": "image"}))
        (document,) = texts.get(["r"])
        assert document.metadata == {}
        assert document.media == {"image": texts.handle.media.take("image", "red.png")}
