"""The installed command, from an empty folder to an answer, with the adapters that come with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENTS = {"sox": "converts audio files between many formats", "postfix": "a fast and secure mail server"}


def diptych(folder: Path, *args: str, input: str = "", code: int = 0) -> str:
    command = [sys.executable, "-m", "diptych", *args]
    done = subprocess.run(command, cwd=folder, input=input, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout or done.stderr


def test_a_first_session_goes_from_nothing_to_an_answer(tmp_path: Path) -> None:
    assert "there is no config file" in diptych(tmp_path, "search", "audio", code=1)
    diptych(tmp_path, "init", "--dense", "none", "--collection", "packages")
    lines = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in DOCUMENTS.items())
    assert "2 new" in diptych(tmp_path, "populate", "-", input=lines)
    (query,) = json.loads(diptych(tmp_path, "search", "convert an audio file", "--json"))["queries"]
    assert [hit["id"] for hit in query["hits"]] == ["sox"]
    assert "2 documents" in diptych(tmp_path, "info")
    assert "model of lexical: bm25 loads" in diptych(tmp_path, "doctor")


@pytest.mark.slow
def test_a_config_in_another_folder_keeps_its_store_there(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    diptych(project, "init", "--dense", "none")
    diptych(tmp_path, "populate", "-", "--config", "project/diptych.yaml", input='{"id": "1", "text": "some words"}\n')
    assert (project / "qdrant").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]
    assert "some words" in diptych(tmp_path, "search", "words", "-c", "project/diptych.yaml")
