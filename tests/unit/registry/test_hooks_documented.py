"""The page of the hooks names every hook with its arguments, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from diptych import hookspecs
from diptych.registry import HOOKS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(diptych_\w+)` \| (.*?) \| .*? \| (all|one) \|$", re.MULTILINE)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_its_section_with_its_arguments(hook: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"\n## {hook}({arguments})\n" in PAGE


def test_the_table_names_all_hooks_their_arguments_and_how_many_answer() -> None:
    documented = {name: (re.findall(r"`(\w+)`", arguments), answers) for name, arguments, answers in ROW.findall(PAGE)}
    expected = {}
    for hook in HOOKS:
        specification = getattr(hookspecs, hook)
        answers = "one" if specification.diptych_spec["firstresult"] else "all"
        expected[hook] = (list(inspect.signature(specification).parameters), answers)
    assert documented == expected
