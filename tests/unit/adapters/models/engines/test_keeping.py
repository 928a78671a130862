"""Converted models on disk: whole or not there, and no more of them than are used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diptych_adapters.engines import processor


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def kept(*facts: object) -> Path:
    folder = processor.cache_folder("some", *facts)

    def write(path: Path) -> tuple[str, ...]:
        (path / "weights").write_text("w")
        (path / "model").write_text("m")
        return "weights", "model"

    processor.store(folder, write)
    return folder


def test_what_is_kept_is_found_and_leaves_nothing_beside() -> None:
    folder = kept("a", 1)
    assert processor.cached_file(folder, "model") == folder / "model"
    assert sorted(path.name for path in folder.iterdir()) == ["model", "weights"]
    assert processor.cached_file(processor.cache_folder("some", "a", 2), "model") is None


def test_those_that_were_used_longest_ago_go_when_they_take_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "MOST", 9)  # bytes; a folder has two
    folders = [kept(number) for number in range(4)]
    for age, folder in enumerate(folders):
        os.utime(folder, (age, age))
    assert processor.cached_file(folders[0], "model")
    kept("one more")
    assert [folder.exists() for folder in folders] == [True, False, True, True]
