"""The command line with fake adapters, in an empty folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer.testing import CliRunner

from cli_values import ANIMALS, CONFIG, NEW, HeavyPlugin, edit
from diptych import Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)

    def error(self) -> Any:
        """The error that standard error holds as JSON."""
        return json.loads(self.err)["error"]


Run: TypeAlias = Callable[..., Answer]


@pytest.fixture
def registry() -> Registry:
    return Registry(fakes_plugin, HeavyPlugin, installed=False)


@pytest.fixture
def run(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def invoke(*args: object, input: str | None = None) -> Answer:
        result = CliRunner().invoke(app, [str(arg) for arg in args], obj=Session(registry), input=input)
        return Answer(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "animals.jsonl"
    path.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in ANIMALS.items()))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "diptych.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def filled(run: Run, config: Path, corpus: Path) -> Run:
    assert run("populate", corpus).code == 0
    return run


@pytest.fixture
def edited(filled: Run, config: Path) -> Run:
    """A filled collection whose config names another encoder now."""
    edit(config, "fake-dense}", NEW)
    return filled
