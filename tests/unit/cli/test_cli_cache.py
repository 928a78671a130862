"""`diptych cache`, and what populate says of the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_populate_says_how_many_vectors_came_from_the_cache(run: Run, config: Path, corpus: Path, folder: Path) -> None:
    assert "encoded: dense 4 (0 from the cache), lexical 4 (0 from the cache)" in run("populate", corpus).out
    config.write_text(config.read_text().replace("collection: animals", "collection: again"))
    assert "encoded: dense 4 (4 from the cache), lexical 4 (4 from the cache)" in run("populate", corpus).out


def test_populate_warns_of_a_cache_that_fails(run: Run, config: Path, corpus: Path, folder: Path) -> None:
    folder.write_text("no folder")
    answer = run("populate", corpus)
    assert answer.code == 0
    assert "warning: the embedding cache was left out" in answer.err


def test_cache_shows_what_it_holds_and_clear_drops_it(run: Run, config: Path, corpus: Path, folder: Path) -> None:
    run("populate", corpus)
    out = run("cache").out.splitlines()
    assert f"{folder / 'embeddings-1.sqlite'}: " in out[0]
    assert [line.split()[0] for line in out[1:]] == ["vectors", "4", "4"]
    assert "8 vectors dropped" in run("cache", "clear").out
    assert run("cache", "--json").json()["spaces"] == []


def test_cache_without_a_config_file_shows_the_users_and_makes_nothing(run: Run, folder: Path) -> None:
    shown = run("cache", "--json").json()
    assert shown == {"path": str(folder / "embeddings-1.sqlite"), "limit": 1_000_000_000, "size": 0, "spaces": []}
    assert run("cache", "clear").code == 0
    assert not folder.exists()


def test_cache_that_cannot_be_read_is_a_failure(run: Run, folder: Path) -> None:
    folder.mkdir()
    (folder / "embeddings-1.sqlite").mkdir()
    answer = run("cache")
    assert (answer.code, answer.out) == (1, "")
    assert "the embedding cache was left out" in answer.err


def test_a_path_in_the_config_starts_at_the_configs_folder(
    run: Run, config: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIPTYCH_CACHE")
    config.write_text(config.read_text() + "cache: {path: kept/here, size: 20MB}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    shown = run("cache", "--config", config, "--json").json()
    assert (shown["path"], shown["limit"]) == (str(tmp_path / "kept/here/embeddings-1.sqlite"), 20_000_000)
