"""The generated reference is what the code says now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import diptych_training  # whose recipes are in the reference: this is a test of that guest

SCRIPT = Path(diptych_training.__file__).parents[2] / "docs/generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["config.md", "diptych.schema.json", "cli.md", "recipes.md"])
def test_a_committed_page_is_what_the_generator_writes(generate: ModuleType, name: str) -> None:
    pages: dict[Path, str] = generate.pages()
    path = SCRIPT.parent / "reference" / name
    assert path.read_text("utf-8") == pages[path], f"run: python docs/generate.py, and commit docs/reference/{name}"
