"""`diptych cache`, and what populate says of the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from diptych import Registry
from diptych.cli.doctor import cache
from diptych.cli.populate import populate
from diptych.cli.run_command import Session, command


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Any]
APP = typer.Typer(rich_markup_mode="rich")
command(APP, "populate", populate)
command(APP, "cache", cache)


@pytest.fixture
def run(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def invoke(*args: object) -> Answer:
        result = CliRunner().invoke(APP, [str(arg) for arg in args], obj=Session(registry))
        return Answer(result.exit_code, result.stdout, result.stderr)

    return invoke


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


def test_cache_shows_what_is_held_by_space(run: Run, config: Path, corpus: Path, folder: Path) -> None:
    run("populate", corpus)
    answer = run("cache")
    assert answer.code == 0
    assert f"{folder / 'embeddings-1.sqlite'}: " in answer.out
    assert " of 1,000.0 MB" in answer.out
    assert [line.split()[0] for line in answer.out.splitlines()[1:]] == ["vectors", "4", "4"]
    assert "fake-dense: " in answer.out


def test_cache_clear_drops_everything(run: Run, config: Path, corpus: Path, folder: Path) -> None:
    run("populate", corpus)
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
