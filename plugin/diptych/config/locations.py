"""The locations of config values, so that errors can name file and line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Location: TypeAlias = tuple[str | int, ...]  # the keys and indexes that lead to a value: ("slots", "dense", "adapter")

_LONGEST_KEY = 80  # characters of a key that errors show


@dataclass(frozen=True, slots=True)
class Source:
    """A config file and the line of each key in it; a mapping given from Python has neither.

    `given` is what stands in the place of the file's values, and where that came from: `--set training.epochs`.

    Two sources are always equal: configs that say the same are the same, wherever they came from.
    """

    path: Path | None = field(default=None, compare=False)
    lines: Mapping[Location, int] = field(default_factory=dict, compare=False)
    given: Mapping[Location, str] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """The file as the user named it, or `config`."""
        return str(self.path) if self.path else "config"

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from: the config file's, or the working directory."""
        return self.path.absolute().parent if self.path else Path.cwd()

    def line(self, location: Location) -> int | None:
        """The line of the key, or of the nearest one above it that stands in the file; counted from 1."""
        return next((self.lines[key] for key in _upwards(location) if key in self.lines), None)

    def where(self, location: Location) -> str:
        """`diptych.yaml, line 7, slots.dense.adapter`, or the place outside the file that the value was given at."""
        # Where the value was given, or what is below it and the file does not have; empty for one of the file.
        within = [self.given[key] for key in _upwards(location) if key in self.given]
        below = [text for key, text in self.given.items() if location and key[: len(location)] == location]
        if elsewhere := next(iter([*within, *(below if location not in self.lines else [])]), ""):
            return elsewhere
        line = self.line(location)
        parts = [self.name, f"line {line}" if line else "", dotted(location)]
        return ", ".join(part for part in parts if part)


def dotted(location: Location) -> str:
    """`search.rerank[0].adapter`."""
    text = ""
    for key in location:
        text += f"[{key}]" if isinstance(key, int) else f".{str(key)[:_LONGEST_KEY]}"
    return text.removeprefix(".")


def _upwards(location: Location) -> list[Location]:
    return [location[:end] for end in range(len(location), 0, -1)]
