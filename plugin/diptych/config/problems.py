"""Turns what pydantic found wrong into errors that name the line and the nearest valid key, and show no secret.

`Source` knows the line of each key in a file; `redacted` hides what may be a secret.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from diptych.config.section import fields_of
from diptych.errors import ConfigError, brief
from diptych.runtime.validation_messages import expectation, nearest, remedy

_NAMES = re.compile(r"key|token|secret|password|credential|authorization", re.IGNORECASE)
_HARMLESS = re.compile(r"tokens|tokeni[sz]er|token_(length|budget|weights)|(max|min)_token", re.IGNORECASE)
HIDDEN = "***"

Location: TypeAlias = tuple[str | int, ...]  # the keys and indexes that lead to a value: ("slots", "dense", "adapter")
_LONGEST_KEY = 80  # characters of a key that errors show

_TOLD = 50  # problems that are told at once


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


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong at one place of a config."""

    location: Location
    what: str
    got: str = ""
    expected: str = ""
    do: str = ""


class PipelineProblems(ValueError):
    """Values that are right by themselves but not together; raised inside the models, never seen by users."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.what for problem in problems))


def raise_problems(problems: Sequence[Problem], source: Source) -> None:
    """Raise nothing for none, the problem itself for one, and all of them, by line, in one error for several.

    Raises:
        ConfigError: with `context["problems"]` when there are several.
    """
    ordered = sorted(problems, key=lambda p: source.line(p.location) or 0)
    errors = [
        ConfigError(
            p.what, where=source.where(p.location), got=p.got, expected=p.expected, do=p.do, location=p.location
        )
        for p in ordered[:_TOLD]
    ]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        items = [f"{n}. {error}".replace("\n", "\n   ") for n, error in enumerate(errors, 1)]
        more = [f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
        what = "\n".join([f"{len(problems)} problems in {source.name}", *items, *more])
        raise ConfigError(what, problems=tuple(errors))


def problems_of(error: ValidationError, model: type[BaseModel], raw: Mapping[str, Any]) -> list[Problem]:
    """The problems that pydantic found in `raw`, at the places where the user wrote them."""
    problems: list[Problem] = []
    for detail in error.errors(include_url=False):
        nested = detail.get("ctx", {}).get("error")
        if isinstance(nested, PipelineProblems):
            at = _as_written((*detail["loc"], ""), raw)[:-1]
            problems += [replace(problem, location=(*at, *problem.location)) for problem in nested.problems]
        else:
            problems.append(_problem(detail, model, raw))
    return problems


def _problem(detail: Mapping[str, Any], model: type[BaseModel], raw: Mapping[str, Any]) -> Problem:
    location = _as_written(detail["loc"], raw)
    if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        key, names = str(location[-1]), list(fields_at(model, detail["loc"][:-1]))
        sections = {name: _unwrap(field.annotation) for name, field in model.model_fields.items()}
        # The sections that have a key of this name, where none that is known here is near.
        elsewhere = [] if nearest(key, names) else [n for n, section in sections.items() if key in fields_of(section)]
        do = f"{key!r} belongs under {' or '.join(elsewhere)}" if elsewhere else nearest(key, names)
        return Problem(location, f"unknown key {brief(key)}", expected=", ".join(names), do=do)
    if detail["type"] == "missing":
        known = fields_at(model, detail["loc"][:-1])
        about = known.get(str(detail["loc"][-1]))
        do = _misspelt(location, raw, known) or (f"add it: {about}" if about else "")
        return Problem(location, f"{location[-1]!r} is missing", do=do)
    if detail["type"].startswith("union_tag"):
        tag, kinds = detail["ctx"].get("tag"), kinds_at(model, detail["loc"])
        if tag is None:
            return Problem((*location, "kind"), "'kind' is missing", expected=" | ".join(kinds))
        got, do = shown(tag, (*location, "kind")), nearest(tag, kinds)
        return Problem((*location, "kind"), "unknown kind", got, " | ".join(kinds), do)
    if location[-1:] == ("[key]",):
        return Problem(location[:-1], "a name must be text", repr(location[-2]), do="put it in quotes")
    value = detail["input"]
    do = "${NAME} works in store, api_key and options of adapters only" if "${" in str(value) else remedy(detail)
    if isinstance(value, str) and not do:
        for kind in difflib.get_close_matches(value, kinds_at(model, detail["loc"]), n=1):  # as in `fuse: rrf`
            section = f"{location[-1]}: {{kind: {kind}}}"
            do = f"write {section}" if kind == value else f"did you mean {section}?"
    # What is wrong with several keys of a section together is in the expectation; "a mapping" would say nothing.
    got = "" if detail["type"] == "value_error" and isinstance(value, dict) else shown(value, location)
    return Problem(location, "unusable value", got, expectation(detail), do)


def _misspelt(location: Location, raw: object, known: Iterable[str]) -> str:
    """What to do if the missing key is there under a similar name."""
    for key in location[:-1]:
        inside = _step(raw, key)
        raw = inside[0] if inside else None
    unknown = [key for key in raw if isinstance(key, str) and key not in known] if isinstance(raw, Mapping) else []
    matches = difflib.get_close_matches(str(location[-1]), unknown, n=1)
    return f"did you mean {location[-1]!r} by {matches[0]!r}?" if matches else ""


def shown(value: object, location: Location) -> str:
    """`repr(value)`, cut; nothing that may be a secret."""
    if any(is_secret(key) for key in location):
        return f"a {type(value).__name__} that is not shown"
    if isinstance(value, dict | list) and value:
        return "a mapping" if isinstance(value, dict) else "a list"
    text = brief(value, 100)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _as_written(location: Location, raw: object) -> Location:
    """Pydantic's location without the tags and `options` that it puts between the keys of the file."""
    path: list[str | int] = []
    for position, key in enumerate(location):
        inside = _step(raw, key)
        if inside is not None or position == len(location) - 1 or location[position + 1] == "[key]":
            path.append(key)
            raw = inside[0] if inside else None
    return tuple(path)


def _step(raw: object, key: str | int) -> tuple[object] | None:
    if isinstance(raw, Mapping) and key in raw:
        return (raw[key],)
    if isinstance(raw, Sequence) and not isinstance(raw, str) and isinstance(key, int) and key < len(raw):
        return (raw[key],)
    return None


# Looks up which keys a config may hold at a place.


def fields_at(model: type[BaseModel], location: Location) -> dict[str, str]:
    """The keys that `model` allows at `location`, with their descriptions; empty where any key goes."""
    section = _walk(model, list(location))
    return {name: field.description or "" for name, field in fields_of(section).items()}


def kinds_at(model: type[BaseModel], location: Location) -> list[str]:
    """What `kind` can be in the section at `location`."""
    section = _walk(model, list(location))
    return [kind for member in section for kind in _kinds(member)] if isinstance(section, tuple) else []


def _walk(annotation: Any, location: list[str | int]) -> Any:
    """The type of the value that `location` leads to, from a value of type `annotation`."""
    annotation = _unwrap(annotation)
    if not location:
        return annotation
    key, remaining = location[0], location[1:]
    if isinstance(annotation, tuple):
        # The section whose `kind` is `tag`.
        return _walk(next((member for member in annotation if key in _kinds(member)), None), remaining)
    if known := fields_of(annotation):
        return _walk(known[key].annotation, remaining) if key in known else None
    arguments = get_args(annotation)
    return _walk(arguments[-1], remaining) if get_origin(annotation) in (dict, list, Mapping) else None


def _unwrap(annotation: Any) -> Any:
    """Without Annotated and None; a union of several sections as a tuple of them."""
    if get_origin(annotation) is Annotated:
        return _unwrap(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        members = tuple(member for member in get_args(annotation) if member is not type(None))
        return _unwrap(members[0]) if len(members) == 1 else members
    return annotation


def _kinds(member: Any) -> tuple[Any, ...]:
    field = fields_of(member).get("kind")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def is_secret(name: object) -> bool:
    """Whether a value of this name may be a secret: `api_key`, `hf_token`; but not `max_tokens` or `tokenizer`."""
    return bool(_NAMES.search(str(name))) and not _HARMLESS.search(str(name))


def redacted(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with secrets hidden, at every depth; references such as `${API_KEY}` tell nothing and stay."""
    return {name: _redacted(name, value) for name, value in options.items()}


def _redacted(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return redacted(value)
    if is_secret(name) and value is not None and not str(value).startswith("${"):
        return HIDDEN
    return [_redacted(name, item) for item in value] if isinstance(value, list) else value
