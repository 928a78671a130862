"""Reads config files as a `Config`, and other YAML files as plain values; writes a changed file with its comments.

No file takes long to read: its size and depth are limited. `read_lines` keeps comments for a change in place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from diptych.config.models import Config
from diptych.config.problems import Location, Problem, Source, is_secret, problems_of, raise_problems
from diptych.errors import ConfigError
from diptych.runtime.validation_messages import MAX_DEPTH, first_fault

EMBEDDED = ("edge:", "local:")  # store URLs that end in a path
ENDLESS = 1 << 16  # columns: YAML's writer breaks lines in the middle of a mapping

MAX_BYTES = 250_000  # a config is small; a corpus given in its place must not be parsed as YAML
MAX_VALUES = 20_000  # keys and values, each alias counted as what it stands for

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


def load_config(path: str | Path = "diptych.yaml") -> Config:
    """The config in a YAML file, its relative paths taken from the file's folder.

    `${NAME}` is left as it stands; it is filled in where a value is used, so that secrets never travel in a config.

    Raises:
        ConfigError: the file cannot be read, or says something that no config may say; names file, line and key.
    """
    raw, source = read_yaml(path)
    return _config(raw, source)


def parse_config(raw: Mapping[str, Any]) -> Config:
    """The config that a mapping describes, its relative paths taken from the working directory.

    Raises:
        ConfigError: it says something that no config may say; names the key.
    """
    check_values(raw, Source())
    return _config(dict(raw), Source())


def replace_config(path: Path, text: str) -> None:
    """Replace a config file, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as error:
        raise ConfigError("cannot write the config", where=path, got=error.strerror or str(error)) from error


def _config(raw: dict[str, Any], source: Source) -> Config:
    problems: list[Problem] = []
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = problems_of(error, Config, raw)
    raise_problems(problems, source)  # outside, so that no traceback quotes the values that pydantic saw
    resolved = resolve_paths(config, source.folder)
    resolved._source = source
    return resolved


def resolve_paths(config: Config, folder: Path) -> Config:
    """`config` with absolute paths; relative ones start at `folder`."""
    files = {"queries": config.evaluate.queries, "qrels": config.evaluate.qrels}
    evaluate = config.evaluate.model_copy(
        update={name: _path(value, folder) for name, value in files.items() if value is not None}
    )
    store = config.store  # or nodes of a server
    scheme, _, path = store.partition(":") if isinstance(store, str) else ("", "", "")
    rerank = [replace(stage, options=with_paths(stage.options, folder)) for stage in config.search.rerank]
    slots = {}
    for name, slot in config.slots.items():
        own: dict[str, Any] = {"options": with_paths(slot.options, folder)}
        if (query := slot.query) is not None:
            paths = {"student": with_paths(query.student, folder), "options": with_paths(query.options, folder)}
            own["query"] = query.model_copy(update=paths)
        slots[name] = slot.model_copy(update=own)
    return config.model_copy(
        update={
            "store": f"{scheme}:{_path(path, folder)}" if path and f"{scheme}:" in EMBEDDED else store,
            "slots": slots,
            "search": config.search.model_copy(update={"rerank": rerank}),
            "evaluate": evaluate,
            "cache": config.cache.model_copy(update={"path": config.cache.path and _path(config.cache.path, folder)}),
        }
    )


def _path(value: str, folder: Path) -> str:
    return value if value.startswith("${") else str((folder / Path(value).expanduser()).resolve())


def with_paths(value: Any, folder: Path) -> Any:
    """The value with every text that looks like a path made absolute; other texts may be names."""
    if isinstance(value, str):
        return _path(value, folder) if value.startswith(("./", "../", "~/")) else value
    if isinstance(value, Mapping):
        return {key: with_paths(item, folder) for key, item in value.items()}
    return [with_paths(item, folder) for item in value] if isinstance(value, list) else value


def read_yaml(path: str | Path, sort: Sort = CONFIG) -> tuple[dict[str, Any], Source]:
    """The mapping that the file holds, and where each key stands.

    Args:
        path: of the file.
        sort: what errors call it.

    Raises:
        ConfigError: no such file, not UTF-8, bad YAML (with its line), a duplicate key, empty, or not a mapping.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"the {sort.name} file is too large", where=path, expected=f"at most {MAX_BYTES:,} bytes")
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no {sort.name} file", where=path, do=sort.start) from None
    except OSError as error:
        raise ConfigError(f"cannot read the {sort.name} file", where=path, got=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the {sort.name} file is not UTF-8 text", where=path, got=f"byte {error.start}") from error
    except ValueError as error:  # a null character or a lone surrogate in the path
        what = f"this cannot be the path of a {sort.name} file"
        raise ConfigError(what, where=ascii(str(path)), got=error) from error
    return parse_yaml(text, path, sort)


_KINDS: Mapping[type, str] = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}


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
            f"the {sort.name} is not a mapping",
            where=path,
            got=_KINDS.get(type(values), type(values).__name__),
            expected="key: value lines",
        )
    lines: dict[Location, int] = {}
    _collect_lines(node, (), lines, set())
    source = Source(path, lines)
    check_values(values, source)
    return values, source


def _parse(text: str, path: Path, sort: Sort) -> tuple[Node | None, Any]:
    """The node graph, which knows lines, and the plain values built from it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = LimitedComposer
    try:
        node = yaml.compose(text)
        if node is None:
            return None, None
        _expanded(node, set(), {})
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
        # `key: value` with a colon in its bare value, which YAML takes for a second key.
        match = _BARE_VALUE.match(_COMMENT.split(text.splitlines()[mark.line], maxsplit=1)[0])
        if match and re.search(r":(?:\s|$)", match[2]):
            hint = f"quote the value of {match[1]}" if is_secret(match[1]) else f'quote it: "{match[2].strip()}"'
    return ConfigError(f"the {sort.name} file is not YAML", where=where, got=f"{context} {problem}".strip(), do=hint)


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


class LimitedComposer(Composer):
    """Builds the nodes of a YAML document and stops where it is too deep or too long, before the rest is read."""

    _depth, _count = 0, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As the base class."""
        self._depth, self._count = self._depth + 1, self._count + 1
        if self._depth > MAX_DEPTH:
            raise ConfigError("the config is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
        if self._count > MAX_VALUES:
            raise too_many()
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def too_many() -> ConfigError:
    """The error for a config with too many values, aliases included."""
    return ConfigError("the config holds too many values", expected=f"at most {MAX_VALUES:,}, aliases written out")


def _expanded(node: Node, above: set[int], sizes: dict[int, int]) -> int:
    """How many values the node is when its aliases are written out.

    Raises:
        ConfigError: an alias contains itself, or there are more than a config may hold.
    """
    if id(node) in above:
        where = f"line {node.start_mark.line + 1}"
        raise ConfigError("an alias in the config contains itself", where=where, do="write the value out")
    if id(node) not in sizes:
        above.add(id(node))
        pairs = node.value if isinstance(node, MappingNode) else []
        children = list(node.value) if isinstance(node, SequenceNode) else [child for pair in pairs for child in pair]
        sizes[id(node)] = 1 + sum(_expanded(child, above, sizes) for child in children)
        above.remove(id(node))
    if sizes[id(node)] > MAX_VALUES:
        raise too_many()
    return sizes[id(node)]


def check_values(raw: Mapping[str, Any], source: Source) -> None:
    """Raise ConfigError for unusable values: too many, numbers beyond 64 bits, invalid Unicode.

    From a file, dates, bytes and numbers that are not finite are refused, too; Python may hand over any object.
    """
    fault = first_fault(raw, limit=MAX_VALUES, plain=source.path is not None)
    if fault is not None:
        where = source.where(fault.at)
        raise ConfigError(fault.what, where=where, got=fault.got, expected=fault.expected, location=fault.at)


def as_written(value: object) -> str:
    """A value in one line, as YAML has it, without what is not set: `{tokens: 200, overlap: 40}`; `unset` for None."""
    if isinstance(value, str) and (value.strip() != value or not value or not value.isprintable()):
        return repr(value)  # such as a separator, of which nothing would be seen
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {as_written(item)}' for key, item in value.items() if item is not None)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_written, value))}]"
    return "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def yaml_of(value: object) -> str:
    """The value as YAML of many lines."""
    stream, yaml = StringIO(), YAML()
    yaml.default_flow_style = False
    yaml.dump(value, stream)
    return stream.getvalue()


def in_one_line(value: object) -> str:
    """The value as YAML in one line: `{adapter: bm25, language: english}`, in quotes where a text needs them."""
    stream, yaml = StringIO(), YAML()
    yaml.default_flow_style, yaml.width = True, ENDLESS
    yaml.dump({"": value}, stream)
    return stream.getvalue().strip().removeprefix("{'': ").removesuffix("}")


def plain_values(text: str) -> Any:
    """What YAML says, as plain values."""
    return YAML(typ="safe", pure=True).load(text)


def read_lines(source: str) -> Any:
    """The mapping of a config file, which keeps comments and quotes."""
    yaml = YAML()
    yaml.preserve_quotes = True
    return yaml.load(source)


def as_yaml(raw: Any) -> str:
    """The YAML of a mapping from `read_lines`, with its comments and quotes, and slots indented as they were."""
    stream, yaml = StringIO(), YAML()
    yaml.preserve_quotes, yaml.width = True, ENDLESS
    slots: Any = raw.get("slots")
    if hasattr(slots, "lc") and isinstance(raw["slots"], Mapping) and not slots.fa.flow_style():
        columns = [column for _, column, *_ in (slots.lc.data or {}).values()]
        yaml.map_indent = min(columns) if columns and 1 <= min(columns) <= 8 else 2
    yaml.dump(raw, stream)
    return stream.getvalue()
