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


def test_every_adapter_is_listed_with_its_kind_and_what_it_lacks(run: Run) -> None:
    lines = run("adapters").out.splitlines()
    by_name = {line.split()[0]: line for line in lines}
    assert {"fake-dense", "fake-sparse", "fake-multivector", "fake-reranker", "heavy"} <= set(by_name)
    assert "needs heavy" in by_name["heavy"]
    assert "reranker" in by_name["fake-reranker"]


def test_one_kind_can_be_asked_for(run: Run) -> None:
    found = run("adapters", "--kind", "reranker", "--json").json()["adapters"]
    assert [adapter["name"] for adapter in found] == ["fake-reranker"]
    assert found[0]["missing"] == ""


def test_one_adapter_is_shown_with_the_defaults_of_its_options() -> None:
    session = Session(Registry(diptych_adapters.hooks, installed=False))
    result = CliRunner().invoke(app, ["adapters", "bm25"], obj=session)
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if line.startswith("k1 "))
    assert "1.2" in row


def test_an_adapter_without_declared_options_shows_what_its_factory_takes(run: Run) -> None:
    rows = [line.split() for line in run("adapters", "fake-dense").out.splitlines()]
    assert ["dimension", "integer", "64"] in rows
    assert ["seed", "integer", "0"] in rows
    schema = run("adapters", "fake-dense", "--json").json()["options"]
    assert schema["properties"]["seed"] == {"type": "integer", "default": 0}
    assert schema["required"] == []


def test_an_adapter_that_cannot_be_imported_still_is_described(run: Run) -> None:
    out = run("adapters", "heavy").out
    assert next(line.split()[:3] for line in out.splitlines() if line.startswith("model ")) == ["model", "text", '""']
    assert "pip install 'diptych[heavy]'" in out


def test_how_to_install_what_is_missing_stands_below_the_table(run: Run) -> None:
    assert run("adapters").out.splitlines()[-1] == "pip install 'diptych[heavy]'"


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
