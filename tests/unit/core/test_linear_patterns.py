"""Every regular expression of the source tree takes steps in proportion to the text, whatever the text is made of.

Steps are counted, not time: `regex_steps` matches as `re` does, without its shortcuts.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import diptych
import diptych_adapters
from regex_steps import RUNS, StepCounter, TooManySteps, Way

ENDS = ("", "\0", "a")
LENGTH, RATIO = 48, 5.0  # of four times the length: 4 where steps are linear, 16 where they are quadratic
_METHODS: dict[str, Way] = {"match": "match", "fullmatch": "fullmatch"}
_FUNCTIONS = ("compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer")


@dataclass
class Source:
    """A module's patterns, found in its syntax tree; unknown parts of a pattern stand as 1.

    Args:
        path: of the module.
    """

    path: Path
    texts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.path.read_text("utf-8"))
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                value = self.value(node.value)
                if isinstance(value, str | bytes):
                    self.texts[node.targets[0].id] = value

    def value(self, node: ast.AST) -> Any:
        """The text or flags that an expression stands for; "1" where that is not known."""
        match node:
            case ast.Constant(value=str() | bytes() as value):
                return value
            case ast.JoinedStr(values=values):
                return "".join(str(self.value(value)) for value in values)
            case ast.FormattedValue(value=value):
                return self.value(value)
            case ast.BinOp(left=left, right=right, op=ast.Add()):
                return f"{self.value(left)}{self.value(right)}"
            case ast.BinOp(left=left, right=right, op=ast.BitOr()):
                both = self.value(left), self.value(right)
                return both[0] | both[1] if isinstance(both[0], int) and isinstance(both[1], int) else "1"
            case ast.Attribute(value=ast.Name(id="re"), attr=flag):
                return int(getattr(re, flag))
            case ast.Name(id=name):
                return self.texts.get(name, "1")
        return "1"

    def patterns(self) -> Iterator[tuple[int, str | bytes, int, Way]]:
        """Line, pattern, flags and how it is used, of each call of `re` and of each table of patterns."""
        names = {node.value: _name(node.targets[0]) for node in self._all(ast.Assign)}
        for call in self._all(ast.Call):
            function = _name(call.func)
            if ast.unparse(call.func) != f"re.{function}" or function not in _FUNCTIONS:
                continue
            flags = [self.value(call.args[1])] if function == "compile" and call.args[1:] else []
            flags += [self.value(keyword.value) for keyword in call.keywords if keyword.arg == "flags"]
            way = self._way(names[call]) if call in names else _METHODS.get(function, "scan")
            pattern = self.value(call.args[0])
            for text in [pattern] if pattern != "1" else self._table():
                yield call.lineno, text, sum(flags), way

    def _way(self, name: str) -> Way:
        """How a named pattern is used: where it is given away, anything may be done with it."""
        uses = [node.attr for node in self._all(ast.Attribute) if _name(node.value) == name]
        names = [node for node in self._all(ast.Name, ast.Attribute) if _name(node) == name]
        loaded = [node for node in names if isinstance(node.ctx, ast.Load)]
        ways = {_METHODS.get(use, "scan") for use in uses}
        return ways.pop() if len(ways) == 1 and len(uses) == len(loaded) and name.startswith("_") else "scan"

    def _table(self) -> list[str]:
        """The patterns of a table, which stand first in its rows."""
        first = (row.elts[0] for row in self._all(ast.Tuple) if row.elts)
        return [cell.value for cell in first if isinstance(cell, ast.Constant) and isinstance(cell.value, str)]

    def _all(self, *kinds: type[ast.AST]) -> list[Any]:
        return [node for node in ast.walk(self.tree) if isinstance(node, kinds)]


def _name(node: ast.AST) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def every_pattern() -> dict[tuple[str | bytes, int, Way], str]:
    """Each pattern once for each way in which it is used, and where it stands."""
    found = {}
    for root in {Path(package.__file__ or "").parents[1] for package in (diptych, diptych_adapters)}:
        for path in sorted(root.rglob("*.py")):
            for line, pattern, flags, way in Source(path).patterns():
                found[pattern, flags, way] = f"{path.relative_to(root)}:{line}"
    return found


def steps(counter: StepCounter, text: str, way: Way) -> int:
    """The steps that a text takes; a step for each character at least."""
    counter.spans(text, way)
    return max(counter.steps, len(text))


def growth(counter: StepCounter, way: Way, before: str, unit: str, end: str) -> float:
    """How many times the steps four times the text takes; of longer texts where bounds may still count."""
    ratio = RATIO
    for length in (LENGTH, 16 * LENGTH):
        count = max(3, length // len(unit))
        try:
            short, long = (steps(counter, before + unit * n + end, way) for n in (count, 4 * count))
        except TooManySteps:
            return float("inf")
        ratio = long / short
        if ratio <= RATIO:
            break
    return ratio


def flaw(pattern: str | bytes, flags: int, way: Way) -> str:
    """The run that takes more than linear steps, also after what a part of the pattern matches, and a run of that."""
    counter = StepCounter(pattern, flags)
    prefixes = [*dict.fromkeys(counter.prefixes)]
    for unit in dict.fromkeys([*RUNS.values(), *filter(None, prefixes)]):
        for before in prefixes:
            for end in ENDS:
                if (ratio := growth(counter, way, before, unit, end)) > RATIO:
                    return f"{before!r} + {unit!r} * n + {end!r}: {ratio:.1f} times the steps for 4 times the text"
    return ""


@pytest.mark.parametrize("key", [pytest.param(key, id=place) for key, place in every_pattern().items()])
def test_a_pattern_takes_linear_steps(key: tuple[str | bytes, int, Way]) -> None:
    assert flaw(*key) == ""


QUADRATIC: tuple[tuple[str, int, Way], ...] = (
    (r"[.!?]+[\"')]*\s+", 0, "scan"),  # sentences, as they were
    (r"^(#{1,6})[^\S\n]+(\S.*?)[^\S\n#]*$", re.MULTILINE, "scan"),
    (r"title\s*:\s*(.*?)\s*$", re.IGNORECASE, "match"),
    (r"\$\{(\w+)(?::-([^}]*))?\}", 0, "scan"),
    (r"\s*(?:- )?([\w.-]+):\s+([^\s\"][^\"]*?:(?:\s[^\"]*?)?)\s*(?:\s#.*)?$", 0, "match"),
    (r",(?![^()]*\))", 0, "scan"),
    (r"(a|ab?)*c", 0, "fullmatch"),
    (r"(?:\w+-?)*!", 0, "match"),
)


def test_patterns_with_more_than_linear_steps_are_found() -> None:
    assert [pattern for pattern, flags, way in QUADRATIC if not flaw(pattern, flags, way)] == []


def test_the_counter_finds_what_re_finds() -> None:
    for (pattern, flags, way), place in every_pattern().items():
        chance, counter, compiled = random.Random(7), StepCounter(pattern, flags), re.compile(pattern, flags)
        parts = [*RUNS.values(), *counter.prefixes, "A", "b", "_", "x: y", "。", "\n"]
        for _ in range(60):
            text = "".join(chance.choice(parts) for _ in range(chance.randrange(9)))
            given: Any = text if isinstance(pattern, str) else text.encode("latin-1", "replace")
            found = compiled.finditer(given) if way == "scan" else filter(None, [getattr(compiled, way)(given)])
            shown = text if isinstance(pattern, str) else given.decode("latin-1")
            assert counter.spans(shown, way) == [match.span() for match in found], (place, shown)
