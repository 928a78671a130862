"""Reads a YAML file as plain values plus the line of each key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from diptych.config.locations import Location, Source
from diptych.config.secrets import is_secret
from diptych.config.size_limits import MAX_BYTES, LimitedComposer, check_aliases, check_values
from diptych.errors import ConfigError

_BARE_VALUE = re.compile(r"\s*(?:- )?([\w.-]+):\s+([^\s\"'{\[|>&*!#][^\"]*)$")
_COMMENT = re.compile(r"\s#")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
# What ruamel.yaml's scanner and constructors raise besides its own errors, for such as the date 2024-99-99 or !!bool x.
_PARSER_FAULTS = (ValueError, LookupError, ArithmeticError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Sort:
    """The kind of file expected, for error messages.

    Args:
        name: such as `config`.
        start: how to create one.
    """

    name: str
    start: str


CONFIG = Sort("config", "`diptych init` writes one; --config names another")


def read_yaml(path: str | Path, sort: Sort = CONFIG) -> tuple[dict[str, Any], Source]:
    """The mapping that the file holds, and where each key stands.

    Args:
        path: of the file.
        sort: what errors call it.

    Raises:
        ConfigError: no such file, not UTF-8, bad YAML (with its line), a duplicate key, empty, or not a mapping.
    """
    path = Path(path)
    return parse_yaml(_read_text(path, sort), path, sort)


def parse_yaml(text: str, path: Path, sort: Sort = CONFIG) -> tuple[dict[str, Any], Source]:
    """The mapping that a text holds, and where each key stands; raises as `read_yaml`.

    Args:
        text: in YAML.
        path: what errors call the text.
        sort: what errors call its kind.
    """
    node, values = _parse(text, path, sort)
    if values is None:
        raise ConfigError(f"the {sort.name} file is empty", where=path, do=sort.start)
    if not isinstance(values, dict):
        raise ConfigError(
            f"the {sort.name} is not a mapping", where=path, got=_kind(values), expected="key: value lines"
        )
    lines: dict[Location, int] = {}
    _collect_lines(node, (), lines, set())
    source = Source(path, lines)
    check_values(values, source)
    return values, source


def _read_text(path: Path, sort: Sort) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"the {sort.name} file is too large", where=path, expected=f"at most {MAX_BYTES:,} bytes")
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no {sort.name} file", where=path, do=sort.start) from None
    except OSError as error:
        raise ConfigError(f"cannot read the {sort.name} file", where=path, got=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the {sort.name} file is not UTF-8 text", where=path, got=f"byte {error.start}") from error
    except ValueError as error:  # a null character or a lone surrogate in the path
        raise ConfigError(
            f"this cannot be the path of a {sort.name} file", where=ascii(str(path)), got=error
        ) from error


def _parse(text: str, path: Path, sort: Sort) -> tuple[Node | None, Any]:
    """The node graph, which knows lines, and the plain values built from it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = LimitedComposer
    try:
        node = yaml.compose(text)
        if node is None:
            return None, None
        check_aliases(node)
        return node, yaml.constructor.construct_document(node)
    except YAMLError as error:
        raise _bad_yaml(error, path, text, sort) from error
    except ConfigError as error:
        where = f"{path}, {error.where}" if error.where else path
        raise ConfigError(error.what, where=where, expected=error.expected, do=error.do) from None
    except _PARSER_FAULTS as error:
        what = f"the {sort.name} file contains an invalid YAML value"
        got = _QUOTED.sub("'...'", f"{type(error).__name__}: {error}")  # the value itself may be a key
        raise ConfigError(what, where=path, got=got[:200]) from None


def _bad_yaml(error: YAMLError, path: Path, text: str, sort: Sort) -> ConfigError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    context = str(getattr(error, "context", None) or "")
    if isinstance(error, DuplicateKeyError):
        key = problem.removeprefix("found duplicate key ").split(" with value")[0].strip("\"'")
        return ConfigError(f"key {key!r} appears twice", where=where, do="keep one of the two")
    hint = "indent with spaces, not tabs" if "\\t" in problem else "check quotes, colons and indentation there"
    if mark and problem.startswith("mapping values"):
        hint = _to_quote(text.splitlines()[mark.line]) or hint
    return ConfigError(f"the {sort.name} file is not YAML", where=where, got=f"{context} {problem}".strip(), do=hint)


def _to_quote(line: str) -> str:
    """The hint for `key: value` with a colon in its bare value, which YAML takes for a second key."""
    match = _BARE_VALUE.match(_COMMENT.split(line, maxsplit=1)[0])
    if match is None or not re.search(r":(?:\s|$)", match[2]):
        return ""
    return f"quote the value of {match[1]}" if is_secret(match[1]) else f'quote it: "{match[2].strip()}"'


def _collect_lines(node: Node | None, at: Location, lines: dict[Location, int], seen: set[int]) -> None:
    """Note the line of each key below `node`, once per node, so that aliases cost nothing."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, MappingNode):
        pairs = [(key.value, key, value) for key, value in node.value]
    else:
        pairs = [(n, item, item) for n, item in enumerate(node.value)] if isinstance(node, SequenceNode) else []
    for name, place, value in pairs:
        if isinstance(name, str | int):
            lines[*at, name] = place.start_mark.line + 1
            _collect_lines(value, (*at, name), lines, seen)


def _kind(value: object) -> str:
    return {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}.get(
        type(value), type(value).__name__
    )
