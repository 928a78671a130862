"""What each extra brings along, told from what is installed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
WITH_TORCH = {"torch", "media", "minilm", "train", "demo", "all"}  # they run, convert or carry torch models


def test_only_what_runs_torch_models_brings_torch() -> None:
    assert {extra for extra in EXTRAS if "torch" in _brings(extra)} == WITH_TORCH


def test_the_host_alone_brings_no_model_library_and_no_framework() -> None:
    brought = _closure(tuple(PROJECT["dependencies"]))
    heavy = {"torch", "transformers", "sentence-transformers", "onnxruntime", "langchain-core", "llama-index-core"}
    assert not brought & {*heavy, "haystack-ai", "fastapi", "mcp"}


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_every_requirement_of_an_extra_has_a_floor_and_a_ceiling(extra: str) -> None:
    for text in EXTRAS[extra]:
        requirement = Requirement(text)
        operators = {part.operator for part in requirement.specifier}
        assert requirement.name == "diptych" or "==" in operators or {">=", "<"} <= operators, text


def _brings(extra: str) -> frozenset[str]:
    return _closure(tuple(EXTRAS[extra]))


@cache
def _closure(requirements: tuple[str, ...]) -> frozenset[str]:
    """Names of all distributions that come with these, by the metadata of those that are installed."""
    found: set[tuple[str, str]] = set()
    waiting = [pair for text in requirements for pair in _named(Requirement(text))]
    while waiting:
        pair = waiting.pop()
        if pair in found:
            continue
        found.add(pair)
        waiting += [p for requirement in _required(*pair) for p in _named(requirement)]
    return frozenset(name for name, _ in found)


def _named(requirement: Requirement) -> Iterator[tuple[str, str]]:
    """Distribution and extra, once for each extra and once for none."""
    for extra in ("", *sorted(requirement.extras)):
        yield canonicalize_name(requirement.name), extra


def _required(name: str, extra: str) -> list[Requirement]:
    if name == "diptych":
        return [Requirement(text) for text in (EXTRAS[extra] if extra else PROJECT["dependencies"])]
    try:
        texts = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []  # for another system or Python
    wanted = [Requirement(text) for text in texts]
    return [own for own in wanted if own.marker is None or own.marker.evaluate({"extra": extra})]
