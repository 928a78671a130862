"""`spliced`: a changed config file in which all other lines are those of the file as it was.

`read_lines` reads a config with its comments, for a change in place, and `as_yaml` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from diptych.config.written import plain_values, yaml_of

Path = tuple[str, ...]  # of keys, such as ("slots", "dense")

LONGEST = 120  # columns of a mapping in one line
ENDLESS = 1 << 16  # columns: YAML's writer breaks lines in the middle of a mapping


def read_lines(source: str) -> Any:
    """The mapping of a config file, which keeps comments and quotes."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    return yaml.load(source)


def as_yaml(raw: Any, source: str) -> str:
    """The YAML of a mapping from `read_lines`; what no longer fits into one line gets a line for each of its keys.

    Args:
        raw: the mapping, changed.
        source: the file as it was, whose lines may be long.
    """
    from ruamel.yaml import YAML

    stream, yaml = StringIO(), YAML()
    yaml.preserve_quotes, yaml.width, yaml.map_indent = True, ENDLESS, _indent(raw)
    yaml.dump(raw, stream)
    known, text = {*source.split("\n")}, stream.getvalue()
    lines = [
        part
        for line in text.split("\n")
        for part in ([line] if len(line) <= LONGEST or line in known else _unfolded(line, yaml.map_indent))
    ]
    result = "\n".join(lines)
    return result if _values(result) == _values(text) else text


def spliced(source: str, text: str, paths: Sequence[Path]) -> str:
    """The source with the lines of some entries from `text`, which is the same config with these entries changed.

    YAML's writer would move the columns of all sections. Where the lines of the entries do not make the same config,
    as in a mapping that is written in one line, those of their sections are taken, and else `text` itself.

    Args:
        source: the file as it was.
        text: as `as_yaml` has it.
        paths: the entries that differ.
    """
    if source.endswith("\n"):
        for entries in (paths, list(dict.fromkeys(path[:1] for path in paths))):
            result = _spliced(source, text, entries)
            if _values(result) == _values(text):
                return result
    return text


def changed_entries(old: Mapping[str, Any], new: Mapping[str, Any], sections: Sequence[str]) -> list[Path]:
    """The entries of these sections that differ; a section itself where one of the two has none."""
    paths: list[Path] = []
    for section in sections:
        before, after = old.get(section), new.get(section)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            both = [key for key in before if key in after and before[key] == after[key]]
            paths += [(section, key) for key in {**before, **after} if key not in both]
        elif before != after:
            paths.append((section,))
    return paths


def _spliced(source: str, text: str, paths: Sequence[Path]) -> str:
    kept, new = source.split("\n")[:-1], text.split("\n")[:-1]
    old_values, new_values = read_lines(source), read_lines(text)
    places = {path: _place(old_values, path, kept) for path in paths}
    # From the end, so that places stay right; of two new entries at one place the second goes in first.
    for path in sorted(paths, key=lambda one: places[one].start)[::-1]:
        kept[places[path]] = new[_place(new_values, path, new)]
    return "\n".join([*kept, ""])


def _place(values: Any, path: Path, lines: Sequence[str]) -> slice:
    """The lines of an entry, without comments behind it; none, where it would stand, if there is no such entry."""
    begin, end = 0, len(lines)
    for key in path:
        begins = {name: place[0] for name, place in (values.lc.data or {}).items()} if _is_known(values) else {}
        if key not in begins:
            end = end if key == path[0] else _end(lines, begin, end, of_section=True)
            return slice(end, end)
        begin = begins[key]
        end = min((line for line in begins.values() if line > begin), default=end)
        values = values[key]
    return slice(begin, _end(lines, begin, end, of_section=len(path) == 1))


def _is_known(values: Any) -> bool:
    return isinstance(values, Mapping) and hasattr(values, "lc")


def _end(lines: Sequence[str], begin: int, end: int, *, of_section: bool) -> int:
    """The end of an entry, before the empty lines and comments that belong to the next one.

    Comments within a section are indented; those that are not come after it.
    """
    while end > begin + 1 and (
        not lines[end - 1].strip() or (lines[end - 1] if of_section else lines[end - 1].lstrip()).startswith("#")
    ):
        end -= 1
    return end


def _unfolded(line: str, indent: int) -> list[str]:
    """The mapping of a line over several lines; the line itself where it is no mapping in braces."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.tokens import AnchorToken, FlowMappingEndToken

    try:
        tokens = list(YAML(typ="safe", pure=True).scan(line))
        ends = [token.end_mark.column for token in tokens if isinstance(token, FlowMappingEndToken)]
        if not ends or any(isinstance(token, AnchorToken) for token in tokens):
            return [line]
        first, *others = yaml_of(plain_values(line[: ends[-1]]), indent=indent).splitlines()
    except YAMLError:  # a line of a longer text, or one that refers to others
        return [line]
    margin, comment = line[: len(line) - len(line.lstrip())], line[ends[-1] :].strip()
    return [f"{margin}{part}" for part in (f"{first}   {comment}".rstrip(), *others)]


def _indent(raw: Any) -> int:
    """The columns by which the file indents slots, so that a changed one fits between the others."""
    slots: Any = raw.get("slots") if isinstance(raw, Mapping) else None
    if not _is_known(slots) or slots.fa.flow_style():
        return 2
    columns = [column for _, column, *_ in (slots.lc.data or {}).values()]
    return min(columns) if columns and 1 <= min(columns) <= 8 else 2


def _values(text: str) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return plain_values(text)
    except YAMLError:  # lines of two styles need not fit together
        return None
