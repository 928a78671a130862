"""`diptych init` writes a config that works."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

import diptych_adapters.hooks
from diptych import Registry
from diptych.cli import app
from diptych.cli.init import PROVIDERS, SlotChoice, render
from diptych.cli.run_command import Session
from diptych.config import check_adapters, load_config
from diptych.config.load import in_one_line

Run = Callable[..., Any]


def test_the_file_of_init_without_options_is_valid_and_hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    builtin = Registry(diptych_adapters.hooks, installed=False)
    result = CliRunner().invoke(app, ["init"], obj=Session(builtin))
    assert result.exit_code == 0, result.output
    config = load_config(tmp_path / "diptych.yaml")
    check_adapters(config, builtin)
    assert {name: slot.adapter for name, slot in config.slots.items()} == {
        "dense": "sentence-transformers",
        "lexical": "bm25",
    }
    assert config.slots["lexical"].options == {"language": "english"}
    assert config.search.retrieved(config.slots) == {"dense": 100, "lexical": 100}
    assert "diptych populate SOURCE" in result.output


def test_the_commented_choices_of_the_file_are_valid_too(tmp_path: Path) -> None:
    slots = [SlotChoice("dense", "sentence-transformers", {"model": "m"}), SlotChoice("lexical", "bm25", {})]
    text = render("memory:", "c", slots)
    chosen = ("# late:", "# rescore:", "# rerank:", "# evaluate:", "#   queries:", "#   qrels:", "#   metrics:")
    for line in chosen:
        assert line in text
        text = text.replace(line, line.replace("# ", "", 1))
    path = tmp_path / "diptych.yaml"
    path.write_text(text)
    config = load_config(path)
    check_adapters(config, Registry(diptych_adapters.hooks, installed=False))
    assert config.search.rescore is not None
    assert len(config.search.rerank) == 1
    assert config.evaluate.metrics == ["nDCG@10", "MRR@10", "Recall@100"]


def test_the_file_says_of_fusions_what_the_table_of_measurements_says() -> None:
    page = (Path(__file__).parents[3] / "docs/research/measurements.md").read_text("utf-8")
    (dbsf, dense, lexical, rrf, minmax), *_ = re.findall(r"^\| mean \| \|" + r" 0(\.\d+) \|" * 5, page, re.MULTILINE)
    text = " ".join(render("memory:", "c", [SlotChoice("a", "b", {})]).replace("#", "").split())
    assert f"{dbsf} by dbsf, {minmax} by linear without weights, {rrf} by rrf" in text
    assert f"{lexical} by BM25 alone, {dense} by MiniLM alone" in text


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_file_for_a_provider_is_valid_and_names_its_key(name: str, tmp_path: Path) -> None:
    slots, text = init(tmp_path, "--provider", name), (tmp_path / "written.yaml").read_text()
    assert slots["dense"].adapter == "remote"
    assert str(slots["dense"].options.get("api_key_env", "_API_KEY")).endswith("_API_KEY")
    (tmp_path / "written.yaml").write_text(text.replace("  # rerank:", "  rerank:"))
    config = load_config(tmp_path / "written.yaml")
    check_adapters(config, Registry(diptych_adapters.hooks, installed=False))
    assert [stage.label for stage in config.search.rerank] == [
        "remote-reranker" if PROVIDERS[name][1] else "cross-encoder"
    ]


def test_options_choose_encoders_store_and_collection(run: Run, tmp_path: Path) -> None:
    options = ("--dense", "fake-dense", "--lexical", "none", "--store", "http://localhost:6333", "--collection", "1984")
    assert run("init", "-c", "other.yaml", *options).code == 0
    config = load_config(tmp_path / "other.yaml")
    assert (config.store, config.collection) == ("http://localhost:6333", "1984")
    assert {name: slot.adapter for name, slot in config.slots.items()} == {"dense": "fake-dense"}
    assert config.search.fuse.kind == "dbsf"


def init(tmp_path: Path, *options: str) -> Any:
    """The slots of a file that the command wrote, with all adapters at hand."""
    path = tmp_path / "written.yaml"
    builtin = Registry(diptych_adapters.hooks, installed=False)
    result = CliRunner().invoke(app, ["init", "-c", str(path), *options], obj=Session(builtin))
    assert result.exit_code == 0, result.output
    return load_config(path).slots


def test_the_language_is_an_option_of_lexical_slots_and_for_program_code_they_read_parts_of_names(
    tmp_path: Path,
) -> None:
    assert init(tmp_path, "--language", "german")["lexical"].options == {"language": "german"}
    slots = init(tmp_path, "--language", "code", "--force")
    assert slots["lexical"].options == {"language": "english", "identifiers": True}
    slots = init(tmp_path, "--language", "code", "--lexical", "qdrant-text-index", "--force")
    assert slots["lexical"].options == {"language": "none", "tokenizer": "code"}


def test_a_schema_stands_beside_the_file_and_the_file_points_to_it(run: Run, tmp_path: Path) -> None:
    run("init", "--dense", "fake-dense", "--lexical", "fake-sparse")
    first = (tmp_path / "diptych.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=./diptych.schema.json"
    schema = json.loads((tmp_path / "diptych.schema.json").read_text())
    assert "SlotConfig.fake-dense" in schema["$defs"]


SCALARS = """a all-MiniLM-L6-v2 org/model ./x 1984 1e5 2024-01-01 no null True a:b edge:./q ${X} quo"te back\\slash é ~
- . .5 0x1F @f *e &a !t %p `q` [x] {y} ? | > 'z'"""


@pytest.mark.parametrize("value", [*SCALARS.split(), "", "a b", "a, b}", "a: b", "# c", "- d", " e", "f\ng"])
def test_a_scalar_is_read_back_as_the_text_it_was(value: str) -> None:
    assert YAML(typ="safe", pure=True).load(f"{{key: {in_one_line(value)}}}") == {"key": value}
