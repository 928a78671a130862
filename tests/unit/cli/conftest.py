"""The command line with fake adapters, in an empty folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from diptych import AdapterSpec, Registry, hookimpl
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin
from spaces import PUPIL

CONFIG = """\
store: edge:./qdrant
collection: animals
slots:
  dense: {adapter: fake-dense}
  lexical: {adapter: fake-sparse}
search:
  limit: 3
"""
ANIMALS = {
    "cat": "the cat sleeps on the warm mat",
    "dog": "the dog barks at the post man",
    "owl": "the owl hunts mice at night",
    "hen": "the hen lays an egg every day",
}


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


class HeavyOptions(BaseModel, extra="forbid"):
    model: str = ""


class HeavyPlugin:
    """An adapter whose packages nobody has, and a student of `fake-dense`."""

    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        return [
            PUPIL,
            AdapterSpec(
                name="heavy",
                kind="dense",
                factory="no_such_package:Model",
                options=HeavyOptions,
                summary="needs what is not there",
                requires=("no_such_package",),
                extra="diptych[heavy]",
            ),
        ]


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
