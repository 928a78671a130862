"""`diptych adapters` lists what can be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner

import diptych_adapters.hooks
from diptych import Registry
from diptych.cli import app
from diptych.cli.adapters import type_of
from diptych.cli.session import Session

Run = Callable[..., Any]


def test_every_adapter_is_listed_with_its_kind_and_what_it_lacks(run: Run) -> None:
    lines = run("adapters").out.splitlines()
    by_name = {line.split()[0]: line for line in lines}
    assert {"fake-dense", "fake-sparse", "fake-multivector", "fake-reranker", "heavy"} <= set(by_name)
    assert "pip install 'diptych[heavy]'" in by_name["heavy"]
    assert "reranker" in by_name["fake-reranker"]


def test_one_kind_can_be_asked_for(run: Run) -> None:
    found = run("adapters", "--kind", "reranker", "--json").json()["adapters"]
    assert [adapter["name"] for adapter in found] == ["fake-reranker"]
    assert found[0]["missing"] == ""


def test_an_unknown_kind_is_wrong_usage(run: Run) -> None:
    answer = run("adapters", "--kind", "desne")
    assert answer.code == 2
    assert "desne" in answer.err


def test_an_unknown_adapter_is_an_error_with_the_nearest(run: Run) -> None:
    answer = run("adapters", "fake-denze", "--json")
    assert answer.code == 1
    assert answer.error()["kind"] == "UnknownAdapter"
    assert "fake-dense" in answer.error()["expected"]


def test_one_adapter_is_shown_with_the_defaults_of_its_options() -> None:
    session = Session(Registry(diptych_adapters.hooks, installed=False))
    result = CliRunner().invoke(app, ["adapters", "bm25"], obj=session)
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if line.startswith("k1 "))
    assert "1.2" in row


def test_an_adapter_without_declared_options_says_so(run: Run) -> None:
    assert "declares none" in run("adapters", "fake-dense").out


def test_types_read_like_words() -> None:
    assert type_of({"type": "string"}) == "text"
    assert type_of({"anyOf": [{"type": "integer"}, {"type": "null"}]}) == "integer or null"
    assert type_of({"enum": ["cpu", "cuda"], "type": "string"}) == "cpu | cuda"
    assert type_of({"type": "array", "items": {"type": "string"}}) == "list of text"
    assert type_of({"$ref": "#/$defs/Inner"}) == "Inner"
    assert type_of({}) == "any"
