"""`diptych adapters` lists what can be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner

import diptych_adapters.hooks
from diptych import Registry
from diptych.cli import app
from diptych.cli.adapters import type_of
from diptych.cli.run_command import Session

Run = Callable[..., Any]


def test_one_adapter_is_shown_with_the_defaults_of_its_options() -> None:
    session = Session(Registry(diptych_adapters.hooks, installed=False))
    result = CliRunner().invoke(app, ["adapters", "bm25"], obj=session)
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if line.startswith("k1 "))
    assert "1.2" in row


def test_the_plugin_of_an_adapter_is_shown_where_there_are_several(run: Run) -> None:
    assert "from" in run("adapters").out.splitlines()[0]
    session = Session(Registry(diptych_adapters.hooks, installed=False))
    assert "from" not in CliRunner().invoke(app, ["adapters"], obj=session).stdout.splitlines()[0]


def test_types_read_like_words() -> None:
    assert type_of({"type": "string"}) == "text"
    assert type_of({"anyOf": [{"type": "integer"}, {"type": "null"}]}) == "integer or null"
    assert type_of({"enum": ["cpu", "cuda"], "type": "string"}) == "cpu | cuda"
    assert type_of({"type": "array", "items": {"type": "string"}}) == "list of text"
    assert type_of({"$ref": "#/$defs/Inner"}) == "Inner"
    assert type_of({}) == "any"
