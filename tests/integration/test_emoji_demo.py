"""The demo of pictures runs on a part of its emoji, with a training that is too short, and draws its contact sheet."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from PIL import Image

from example_runs import EXAMPLES, run

pytestmark = pytest.mark.slow


def test_the_demo_of_pictures_trains_fills_asks_and_draws(tmp_path: Path) -> None:
    folder = tmp_path / "emoji"
    shutil.copytree(EXAMPLES / "emoji", folder, ignore=shutil.ignore_patterns("out"))
    rows = gzip.decompress((folder / "emoji.jsonl.gz").read_bytes()).splitlines(keepends=True)
    assert len(rows) == 1026
    (folder / "emoji.jsonl.gz").write_bytes(gzip.compress(b"".join(rows[::12])))
    recipe = (folder / "train.yaml").read_text("utf-8")
    (folder / "train.yaml").write_text(
        recipe.replace("epochs: 25", "epochs: 1").replace("width: 24", "width: 8"), "utf-8"
    )
    first = " ".join(run(folder / "demo.py", tmp_path).split())
    assert "86 pictures read" in first
    assert "86 new" in first
    with Image.open(folder / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > 600
    again = " ".join(run(folder / "demo.py", tmp_path).split())
    assert "0 new" in again
