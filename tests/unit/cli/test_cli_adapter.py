"""`diptych adapters --new` writes a package that passes the conformance kit, which `diptych adapters --check` runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from diptych import AdapterSpec, Registry, hookimpl
from diptych.cli import app
from diptych.cli.adapters import KINDS
from diptych.cli.run_command import Session

Run = Callable[..., Any]


def check(*arguments: str, plugin: object) -> Any:
    session = Session(Registry(plugin, installed=False))
    return CliRunner().invoke(app, ["adapters", "--check", *arguments], obj=session, env={"COLUMNS": "200"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_passes_the_kit_at_once(
    run: Run, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = run("adapters", "--new", f"my-{kind}", "--kind", kind)
    assert (answer.code, answer.err) == (0, "")
    assert f"next: pip install -e 'diptych-my-{kind}[test]' && diptych adapters --check my-{kind}" in answer.out
    package = tmp_path / f"diptych-my-{kind}"
    for path in package.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
    monkeypatch.syspath_prepend(str(package / "src"))
    hooks = importlib.import_module(f"diptych_my_{kind}.hooks")
    result = check(f"my-{kind}", plugin=hooks)
    assert result.exit_code == 0, result.stdout
    assert "failed" not in result.stdout
    assert f"my-{kind} ({kind}): " in result.stdout
    for name in [name for name in sys.modules if name.startswith(f"diptych_my_{kind}")]:
        del sys.modules[name]


class Broken:
    similarity = "cosine"

    def __init__(self, *, dimension: int = 8) -> None:
        self.dimension = dimension

    def encode_document(self, inputs: Any) -> Any:
        return [[1.0] * self.dimension for _ in inputs]

    encode_query = encode_document


class Plugin:
    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        return [AdapterSpec(name="broken", kind="dense", factory=f"{__name__}:Broken", summary="lists of floats")]


def test_a_check_that_fails_is_told_with_what_was_found(tmp_path: Path) -> None:
    result = check("broken", "--option", "dimension=4", plugin=Plugin)
    assert result.exit_code == 1
    assert "failed  float32: " in result.stdout
    assert "skipped normalized: it does not declare `normalized`" in result.stdout
    found = check("broken", "--json", plugin=Plugin)
    assert found.exit_code == 1
    assert '"passed": false' in found.stdout
