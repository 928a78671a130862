"""Counts the steps of a regular expression: a small backtracking matcher over Python's own syntax trees.

It takes the alternatives in the order in which `re` takes them, without any of its shortcuts, so its steps are an upper
bound that depends on nothing but pattern and text. `spans` tells what it found, to compare with `re`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from re import _constants, _parser  # type: ignore[attr-defined]  # not public, and nothing else parses as `re` does
from typing import Any, Literal

sre: Any = _constants
MOST = 400_000  # steps after which a text is given up
# Texts of one kind of character, which patterns and readers of texts get in lengths of n and 4n.
RUNS = {
    "dots": ".",
    "spaces": " ",
    "newlines": "\n",
    "letters": "a",
    "digits": "1",
    "marks": "\u0301",
    "hashes": "#",
    "dashes": "-",
    "brackets": "[",
    "quotes": '"',
    "colons": ":",
    "slashes": "/",
    "mixed": "a1 .\u3002-#:/[(\"'`_,{$=A\n",
}
Way = Literal["match", "fullmatch", "scan"]  # at the beginning alone, the whole text, or wherever it begins
Test = Callable[[str], bool]
Instruction = tuple[Any, ...]


class TooManySteps(Exception):
    """The text takes more than `MOST` steps."""


class StepCounter:
    """A pattern whose steps are counted.

    Args:
        pattern: as `re.compile` takes it; one of bytes reads Latin-1.
        flags: of `re`.
    """

    def __init__(self, pattern: str | bytes, flags: int = 0) -> None:
        tree = _parser.parse(pattern, flags)
        self.flags = tree.state.flags | (re.ASCII if isinstance(pattern, bytes) else 0)
        self.groups = tree.state.groups
        self.program: list[Instruction] = []
        self.registers = 0
        self.prefixes = [*_prefixes(tree)]
        self._sequence(tree)
        self.program.append(("match",))
        self.steps = 0

    def spans(self, text: str, way: Way) -> list[tuple[int, int]]:
        """Begin and end of each match, as `re` finds them; `steps` counts what it took."""
        self.steps = 0
        found: list[tuple[int, int]] = []
        begin, must_advance = 0, False
        while begin <= len(text):
            end = self._run(0, text, begin, begin if must_advance else -1, way == "fullmatch")
            if end is not None:
                found.append((begin, end))
            if way != "scan":
                return found
            begin, must_advance = (begin + 1, False) if end is None else (end, end == begin)
        return found

    def _run(self, start: int, text: str, begin: int, not_at: int, whole: bool) -> int | None:
        """The end of a match from `begin`; None if there is none."""
        stack: list[tuple[int, int, tuple[Any, ...]]] = [(start, begin, (None,) * (self.registers + 2 * self.groups))]
        while stack:
            at, place, registers = stack.pop()
            while True:
                self.steps += 1
                if self.steps > MOST:
                    raise TooManySteps
                name, *values = self.program[at]
                at += 1
                if name == "match":
                    if place == not_at or (whole and place < len(text)):
                        break
                    return place
                if name == "character":
                    if place == len(text) or not values[0](text[place]):
                        break
                    place += 1
                elif name == "at":
                    if not values[0](text, place):
                        break
                elif name == "split":
                    stack.append((values[1], place, registers))
                    at = values[0]
                elif name == "jump":
                    at = values[0]
                elif name == "save":
                    registers = (*registers[: values[0]], place, *registers[values[0] + 1 :])
                elif name == "advanced":
                    if registers[values[0]] == place:
                        break
                elif name == "same":
                    first, last = registers[values[0]], registers[values[0] + 1]
                    if first is None or last is None or not text.startswith(text[first:last], place):
                        break
                    place += last - first
                else:  # a part that is matched by itself
                    inside, at = at, values[0]
                    if name == "atomic":
                        end = self._run(inside, text, place, -1, False)
                        if end is None:
                            break
                        place = end
                    else:
                        from_there = place - values[1]
                        end = None if from_there < 0 else self._run(inside, text, from_there, -1, False)
                        if (end is None) == (name == "assert"):
                            break
        return None

    def _sequence(self, items: Any) -> None:
        for operation, value in items:
            self._item(operation, value)

    def _item(self, operation: Any, value: Any) -> None:
        if operation in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            self.program.append(("character", _test(operation, value, self.flags)))
        elif operation is sre.AT:
            self.program.append(("at", _position(value, self.flags)))
        elif operation is sre.SUBPATTERN:
            group, _, _, items = value
            if group is None:
                self._sequence(items)
            else:
                self._saved(self._group(group), items)
        elif operation is sre.BRANCH:
            self._branches(value[1])
        elif operation in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            self._repeat(*value, lazy=operation is sre.MIN_REPEAT)
        elif operation is sre.POSSESSIVE_REPEAT:
            self._alone("atomic", lambda: self._repeat(*value, lazy=False))
        elif operation is sre.ATOMIC_GROUP:
            self._alone("atomic", lambda: self._sequence(value))
        elif operation in (sre.ASSERT, sre.ASSERT_NOT):
            direction, items = value
            back = items.getwidth()[0] if direction < 0 else 0
            self._alone("assert" if operation is sre.ASSERT else "assert not", lambda: self._sequence(items), back)
        elif operation is sre.GROUPREF:
            self.program.append(("same", self._group(value)))
        else:
            raise NotImplementedError(operation)

    def _group(self, number: int) -> int:
        return -2 * number - 2

    def _saved(self, register: int, items: Any) -> None:
        self.program.append(("save", register))
        self._sequence(items)
        self.program.append(("save", register + 1))

    def _alone(self, name: str, write: Callable[[], None], *values: int) -> None:
        at = len(self.program)
        self.program.append(())
        write()
        self.program.append(("match",))
        self.program[at] = (name, len(self.program), *values)

    def _branches(self, branches: Any) -> None:
        jumps = []
        for branch in branches:
            at = len(self.program)
            self.program.append(())
            self._sequence(branch)
            jumps.append(len(self.program))
            self.program.append(())
            self.program[at] = ("split", at + 1, len(self.program))
        self.program[at] = ("jump", at + 1)
        for jump in jumps:
            self.program[jump] = ("jump", len(self.program))

    def _repeat(self, least: int, most: Any, items: Any, *, lazy: bool) -> None:
        for _ in range(least):
            self._sequence(items)
        if most is not sre.MAXREPEAT:
            splits = []
            for _ in range(most - least):
                splits.append(len(self.program))
                self.program.append(())
                self._sequence(items)
            for at in splits:
                self.program[at] = _split(at + 1, len(self.program), lazy)
            return
        at, register = len(self.program), self.registers
        self.registers += 1
        self.program += [(), ("save", register)]
        self._sequence(items)
        self.program += [("advanced", register), ("jump", at)]
        self.program[at] = _split(at + 1, len(self.program), lazy)


def _split(again: int, on: int, lazy: bool) -> Instruction:
    return ("split", on, again) if lazy else ("split", again, on)


def _test(operation: Any, value: Any, flags: int) -> Test:
    if operation is sre.ANY:
        return (lambda _: True) if flags & re.DOTALL else lambda c: c != "\n"
    if operation is sre.LITERAL or operation is sre.NOT_LITERAL:
        wanted, same = chr(value), operation is sre.LITERAL
        if flags & re.IGNORECASE:
            return lambda c: (c.lower() == wanted.lower()) == same
        return lambda c: (c == wanted) == same
    negated = bool(value) and value[0][0] is sre.NEGATE
    tests = [_member(kind, member, flags) for kind, member in value[negated:]]
    return lambda c: any(test(c) for test in tests) != negated


def _member(operation: Any, value: Any, flags: int) -> Test:
    if operation is sre.CATEGORY:
        return _category(value, flags)
    first, last = (value, value) if operation is sre.LITERAL else value
    if flags & re.IGNORECASE:
        return lambda c: any(first <= ord(form) <= last for form in (c, c.swapcase()) if len(form) == 1)
    return lambda c: first <= ord(c) <= last


def _category(value: Any, flags: int) -> Test:
    kind = str(value).removeprefix("CATEGORY_").removeprefix("NOT_").lower()
    tests: dict[str, Test] = {
        "digit": str.isdecimal,
        "space": str.isspace,
        "word": lambda c: c.isalnum() or c == "_",
    }
    test, wanted, ascii_only = tests[kind], "NOT_" not in str(value), bool(flags & re.ASCII)
    return lambda c: (test(c) and (not ascii_only or c.isascii())) == wanted


def _position(value: Any, flags: int) -> Callable[[str, int], bool]:
    lines = bool(flags & re.MULTILINE)
    word = _category("CATEGORY_WORD", flags)

    def boundary(text: str, at: int) -> bool:
        return (at > 0 and word(text[at - 1])) != (at < len(text) and word(text[at]))

    return {
        sre.AT_BEGINNING: lambda text, at: at == 0 or (lines and text[at - 1] == "\n"),
        sre.AT_BEGINNING_STRING: lambda text, at: at == 0,
        sre.AT_END: lambda text, at: at >= len(text) - text.endswith("\n") or (lines and text[at] == "\n"),
        sre.AT_END_STRING: lambda text, at: at == len(text),
        sre.AT_BOUNDARY: boundary,
        sre.AT_NON_BOUNDARY: lambda text, at: not boundary(text, at),
    }[value]


def _prefixes(items: Any) -> Iterator[str]:
    """Short texts that the first parts of a pattern match, one for each number of parts, from none on."""
    before = ""
    yield before
    for operation, value in items:
        inside = value[-1] if operation in (sre.SUBPATTERN, sre.MAX_REPEAT, sre.MIN_REPEAT) else ()
        for prefix in _prefixes(inside):
            yield before + prefix
        before += _sample(operation, value)
        yield before


def _sample(operation: Any, value: Any) -> str:
    """A short text that a part of a pattern matches; one repetition of what may be left out."""
    if operation is sre.LITERAL:
        return chr(value)
    if operation in (sre.ANY, sre.NOT_LITERAL, sre.IN):
        members = [member for member in value if member[0] in (sre.LITERAL, sre.RANGE)] if operation is sre.IN else []
        own = [chr(member[0] if kind is sre.RANGE else member) for kind, member in members]
        return next((c for c in [*own, *"a1 .-#:"] if _test(operation, value, 0)(c)), "")
    if operation is sre.SUBPATTERN or operation is sre.ATOMIC_GROUP:
        return "".join(_sample(*item) for item in (value[-1] if operation is sre.SUBPATTERN else value))
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        return "".join(_sample(*item) for item in value[2]) * max(1, int(value[0]))
    if operation is sre.BRANCH:
        return "".join(_sample(*item) for item in value[1][0])
    return ""
