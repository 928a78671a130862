"""A disk that is too small, met by the commands: an error that says what is needed, nothing lost, and a way on."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import preloaded_process

MB = 1 << 20
SIZE = 96 * MB
WORDS = [f"word{number}" for number in range(500)]
CONFIG = """
store: edge:{store}
collection: docs
slots:
  lexical: {{adapter: bm25, language: {language}}}
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def leave(disk: Path, free: int) -> None:
    """Fill the disk until only `free` bytes are left."""
    with (disk / "filler").open("ab") as file:
        while (left := shutil.disk_usage(disk).free - free) > 0:
            file.write(bytes(min(left, MB)))
            file.flush()


def documents(first: int, last: int) -> str:
    chance = random.Random(first)
    texts = [" ".join(chance.choices(WORDS, k=2500)) for _ in range(300)]  # more would take long to make
    return "".join(
        json.dumps({"id": f"d{number}", "text": texts[number % len(texts)]}) + "\n" for number in range(first, last)
    )


def diptych(folder: Path, *args: str, language: str = "english", typed: str = "") -> tuple[int, str]:
    """Exit code and output of a command; it was never ended by a signal."""
    (folder / "diptych.yaml").write_text(CONFIG.format(store=folder / "disk" / "store", language=language))
    done = subprocess.run(
        preloaded_process.words("diptych", *args),
        cwd=folder,
        env={**os.environ, "DIPTYCH_CACHE_DIR": str(folder / "cache"), "COLUMNS": "500"},
        input=typed,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode < 128, done.stderr
    return done.returncode, done.stdout + done.stderr


def held(folder: Path) -> int:
    code, text = diptych(folder, "status")
    assert code == 0, text
    found = re.search(r"docs: ([0-9,]+) documents", text)
    assert found, text
    return int(found[1].replace(",", ""))


@pytest.mark.slow(first=True)
@pytest.mark.timeout(1200)
def test_commands_on_a_disk_that_is_full_say_what_they_need_and_go_on_when_they_have_it(
    tmp_path: Path, disk: Path
) -> None:
    (tmp_path / "large.jsonl").write_text(documents(0, 6000))
    code, text = diptych(tmp_path, "populate", "large.jsonl")
    assert code == 1
    assert re.search(r"too little disk space to populate 6,000 documents", text), text
    assert re.search(r"expected: \d+\.\d MiB", text), text

    (tmp_path / "small.jsonl").write_text(documents(0, 300))
    code, text = diptych(tmp_path, "populate", "small.jsonl")
    assert code == 0, text
    assert held(tmp_path) == 300

    leave(disk, 34 * MB)  # enough for each write, and not for all
    code, text = diptych(tmp_path, "apply", language="german")
    assert (code, "too little disk space to fill new vectors of 300 points" in text) == (1, True), text
    assert diptych(tmp_path, "search", "word7")[0] == 0
    code, text = diptych(tmp_path, "populate", "-", typed=documents(1000, 2000))  # of unknown length
    assert (code, "too little disk space to write" in text) == (1, True), text
    acknowledged = re.search(r"(\d+) documents were acknowledged", text)
    assert acknowledged, text

    leave(disk, 4 * MB)
    assert diptych(tmp_path, "search", "word7")[0] == 0
    leave(disk, MB // 2)
    code, text = diptych(tmp_path, "search", "word7")
    assert (code, "too little disk space to open" in text) == (1, True), text

    (disk / "filler").unlink()
    assert held(tmp_path) == 300 + int(acknowledged[1])
    assert diptych(tmp_path, "search", "word7")[0] == 0
    code, text = diptych(tmp_path, "apply", "--unmeasured", language="german")
    assert code == 0, text
    assert diptych(tmp_path, "search", "word7", language="german")[0] == 0
    assert held(tmp_path) == 300 + int(acknowledged[1])
