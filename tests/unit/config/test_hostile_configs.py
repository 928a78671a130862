"""Configs that nobody should write: each is read and used, or is an error that says what is wrong, in bounded time.

DIPTYCH_FUZZ_CONFIGS says how many damaged ones are tried.
"""

from __future__ import annotations

import io
import os
import random
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

import toy_recipe
from diptych import Collection, Document
from diptych.config import load_config, parse_config
from diptych.config.models import Config
from diptych.errors import ConfigError, DiptychError
from diptych.registry import Registry
from diptych.testing import fakes_plugin
from diptych.training import load_recipe
from mutations import mutated

TRIES = int(os.environ.get("DIPTYCH_FUZZ_CONFIGS", "200"))
GOOD = "store: edge:./q\ncollection: c\nslots:\n  a: {adapter: fake-sparse}\n"
WHOLE: dict[str, Any] = {
    "store": "edge:./qdrant",
    "collection": "packages",
    "timeout": 60,
    "slots": {
        "dense": {
            "adapter": "fake-dense",
            "storage": {"hnsw": {"m": 16, "on_disk": False}, "quantization": {"kind": "scalar", "quantile": 0.99}},
        },
        "lexical": {"adapter": "fake-sparse", "storage": {"on_disk": False}},
    },
    "search": {
        "retrieve": {"dense": 20, "lexical": 20},
        "fuse": {"kind": "rrf", "k": 60, "weights": {"dense": 1.0}},
        "params": {"hnsw_ef": 64, "exact": False},
        "rerank": [{"adapter": "fake-reranker", "candidates": 10, "early_exit": {"block": 2}}],
        "limit": 5,
        "remember": 10,
    },
    "populate": {
        "input": ["title", "text"],
        "separator": " ",
        "chunk": 16,
        "retries": 1,
        "indexes": {"year": "integer"},
    },
    "evaluate": {"queries": "queries.jsonl", "qrels": "qrels.tsv", "metrics": ["nDCG@10"]},
    "swap": {"rate": 100, "gate": {"margin": 0.02, "sample": 10}},
    "cache": {"enabled": False, "size": "100MB"},
    "tenant": {"field": "owner", "required": False},
}


def bomb(levels: int) -> str:
    """Nine aliases of nine aliases and so on: `9 ** levels` values."""
    lines = ["x0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    """As `bomb`, of mappings that are merged."""
    lines = ["x0: &a0 {k: 1}"]
    lines += [f"x{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return "\n".join(lines)


HOSTILE: dict[str, tuple[str, str]] = {
    "an alias bomb": (bomb(9), "too many values"),
    "an alias bomb in options": (GOOD + "  b:\n    adapter: x\n    " + "\n    ".join(bomb(9).split("\n")), "too many"),
    "a bomb of merges": (merges(9), "too many values"),
    "deep lists": ("x: " + "[" * 100_000, "nested too deeply"),
    "deep lists that end": ("x: " + "[" * 200 + "]" * 200, "nested too deeply"),
    "deep mappings": ("x: " + "{a: " * 500 + "1" + "}" * 500, "nested too deeply"),
    "deep dashes": ("- " * 50_000, "nested too deeply"),
    "a megabyte": (GOOD + "x: " + "y" * 1_000_000, "too large"),
    "30,000 keys": (GOOD + "".join(f"k{n}: \n" for n in range(25_000)), "too many values"),
    "an alias of itself": ("a: &a [*a]", "contains itself"),
    "a hex number of 5,000 digits": (GOOD + "timeout: 0x" + "f" * 5000, "a number beyond 64 bits"),
    "a hex number in options": (GOOD.replace("sparse}", "sparse, x: 0x" + "f" * 5000 + "}"), "a number beyond 64 bits"),
    "an octal number of 9,000 digits": (GOOD + "timeout: 0o" + "7" * 9000, "a number beyond 64 bits"),
    "a number of 5,000 digits": (GOOD + "timeout: " + "9" * 5000, "an invalid YAML value"),
    "a number with 5,000 digits before the point": (GOOD + "timeout: " + "9" * 5000 + ".5", "not finite"),
    "NaN": (GOOD + "search: {score_threshold: .nan}", "not finite"),
    "infinity in options": (GOOD.replace("sparse}", "sparse, x: -.inf}"), "not finite"),
    "a lone surrogate": (GOOD.replace("collection: c", 'collection: "\\ud800"'), "text that cannot be used"),
    "a lone surrogate as key": (GOOD + '"\\ud800": 1', "text that cannot be used"),
    "a lone surrogate as slot": (GOOD + '  "\\udfff": {adapter: x}', "text that cannot be used"),
    "a null character": (GOOD.replace("edge:./q", '"edge:./q\\0"'), "text that cannot be used"),
    "a date": (GOOD.replace("collection: c", "collection: 2024-01-01"), "put it in quotes"),
    "a date in options": (GOOD.replace("sparse}", "sparse, x: 2024-01-01}"), "put it in quotes"),
    "bytes": (GOOD + "x: !!binary aGVsbG8=", "put it in quotes"),
    "a set": (GOOD + "x: !!set {a, b}", "put it in quotes"),
    "an empty number": (GOOD + "x: !!int ''", "an invalid YAML value"),
    "a truth that is none": (GOOD + "x: !!bool abc", "an invalid YAML value"),
    "an escape beyond Unicode": (GOOD + 'x: "\\Uffffffff"', "an invalid YAML value"),
    "a date that is none": (GOOD + "x: 2024-99-99", "an invalid YAML value"),
    "a call of Python": (GOOD + "x: !!python/object/apply:os.system [ls]", "not YAML"),
    "control characters": (GOOD + "x: a\x01b", "not YAML"),
    "another version": ("%YAML 9.9\n---\n" + GOOD, "not YAML"),
}  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_clear_error_and_takes_little_memory(name: str, tmp_path: Path) -> None:
    text, expected = HOSTILE[name]
    path = tmp_path / "diptych.yaml"
    path.write_text(text, encoding="utf-8")
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=expected) as caught:
            load_config(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 3000
    str(caught.value).encode()


def test_a_mapping_that_contains_itself_is_refused() -> None:
    raw: dict[str, Any] = {"collection": "c", "slots": {"a": {"adapter": "fake-sparse"}}}
    raw["slots"]["a"]["more"] = raw
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_config(raw)


def test_shared_values_that_grow_without_end_are_refused() -> None:
    value: Any = "x"
    for _ in range(20):
        value = [value] * 9
    with pytest.raises(ConfigError, match="too many values"):
        parse_config({"collection": "c", "slots": {"a": {"adapter": "fake-sparse", "more": value}}})


def test_many_problems_are_told_up_to_a_number() -> None:
    with pytest.raises(ConfigError, match=r"1002 problems in config(.|\n)*and 952 more") as caught:
        parse_config({f"k{n}": n for n in range(1000)})
    assert len(str(caught.value)) < 30_000


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_damaged_config_works_or_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, worked = random.Random(17), 0
    for number in range(TRIES):
        folder = tmp_path / "a" / "b" / str(number)  # where `..` leads stays within the test
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        told = ""
        given = WHOLE if number % 20 == 0 else mutated(WHOLE, chance)
        how = chance.choice([as_mapping, as_yaml, as_damaged_text])
        try:
            worked += is_used(how(given, folder, chance))
        except DiptychError as error:
            told = str(error)
        except BaseException as error:
            pytest.fail(f"config {number}, {how.__name__}: {type(error).__name__}: {str(error)[:300]}")
        assert len(told.encode()) < 40_000, f"config {number}: {told[:300]}"
    assert TRIES * 0.1 < worked < TRIES * 0.9  # both happen, else nothing was tried


def as_mapping(given: Any, folder: Path, chance: random.Random) -> Config:
    return parse_config(given)


def as_yaml(given: Any, folder: Path, chance: random.Random) -> Config:
    return load_config(written(folder, dumped(given)))


def as_damaged_text(given: Any, folder: Path, chance: random.Random) -> Config:
    text = dumped(WHOLE)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(len(text))
        piece = chance.choice(
            ["", "\t", "  ", "\n", ":", "- ", "{", "]", "&a ", "*a", "!!int ", "|", '"', "'", "#", "\0", "é"]
        )
        text = text[:at] + piece + text[at + chance.choice([0, 0, 1, 9]) :]
    return load_config(written(folder, text))


def dumped(given: Any) -> str:
    """As YAML; the whole config in place of what YAML cannot write."""
    stream = io.StringIO()
    try:
        YAML(typ="safe", pure=True).dump(given, stream)
        return stream.getvalue()
    except (YAMLError, RecursionError, ValueError):
        return dumped(WHOLE)


def written(folder: Path, text: str) -> Path:
    path = folder / "diptych.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def is_used(config: Config) -> bool:
    """Whether a collection by the config finds what was brought in."""
    metadata: Mapping[str, Any] = {"year": 1897, "owner": "x"}
    documents = [Document(f"d{n}", f"word{n} and words", metadata=metadata) for n in range(3)]
    with Collection.open(config, registry=Registry(fakes_plugin, installed=False)) as collection:
        collection.populate(documents)
        tenant = "x" if config.tenant else None
        return len(collection.search("words", tenant=tenant)) > 0


RECIPE: dict[str, Any] = {"recipe": "toy", "model": "m", "output": "run", "training": {"epochs": 1.0}, "after": 0.5}
CHANGES: list[tuple[str, Any]] = [
    ("after", 16**5000), ("model", "\ud800"), ("", 1), ("recipe", None), ("x..y", 1), ("training.epochs", [1]),
    ("\ud800", 1),
]  # fmt: skip


def test_a_damaged_recipe_is_a_clear_error() -> None:
    chance, registry = random.Random(17), toy_recipe.registry(toy_recipe.spec())
    told: list[str] = []
    for number in range(TRIES):
        given = mutated(RECIPE, chance)
        changes = dict([chance.choice(CHANGES)]) if number % 3 == 0 else None
        try:
            load_recipe(given, registry, changes=changes)
        except DiptychError as error:
            told.append(str(error))
        except BaseException as error:
            pytest.fail(f"recipe {number}: {type(error).__name__}: {str(error)[:300]}")
    assert all(len(text.encode()) < 30_000 for text in told)
    assert len(told) > TRIES * 0.5
