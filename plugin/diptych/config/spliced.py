"""`spliced`: a changed config file in which all other lines are those of the file as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diptych.config.written import plain_values

Path = tuple[str, ...]  # of keys, such as ("slots", "dense")


def spliced(source: str, text: str, paths: Sequence[Path]) -> str:
    """The source with the lines of some entries from `text`, which is the same config with these entries changed.

    YAML's writer would move the columns of all sections. `text` itself is returned where the lines do not make the
    same config, as in a mapping that is written in one line.

    Args:
        source: the file as it was.
        text: as YAML's writer has it.
        paths: the entries that differ.
    """
    from ruamel.yaml import YAML

    if not source.endswith("\n"):
        return text
    kept, new = source.split("\n")[:-1], text.split("\n")[:-1]
    old_values, new_values = YAML().load(source), YAML().load(text)
    places = {path: _place(old_values, path, kept) for path in paths}
    for path in sorted(paths, key=lambda one: places[one].start, reverse=True):
        kept[places[path]] = new[_place(new_values, path, new)]
    result = "\n".join([*kept, ""])
    return result if _values(result) == _values(text) else text


def _place(values: Any, path: Path, lines: Sequence[str]) -> slice:
    """The lines of an entry; none, where it would stand, if there is no such entry."""
    begin, end = 0, len(lines)
    for key in path:
        begins = {name: place[0] for name, place in (values.lc.data or {}).items()} if _is_known(values) else {}
        if key not in begins:
            return slice(end, end) if key == path[0] else _before_comments(lines, begin, end)
        begin = begins[key]
        end = min((line for line in begins.values() if line > begin), default=end)
        values = values[key]
    return slice(begin, end)


def _is_known(values: Any) -> bool:
    return isinstance(values, Mapping) and hasattr(values, "lc")


def _before_comments(lines: Sequence[str], begin: int, end: int) -> slice:
    """The end of a section, before the empty lines and comments that belong to the next one."""
    while end > begin + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return slice(end, end)


def _values(text: str) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return plain_values(text)
    except YAMLError:  # lines of two styles need not fit together
        return None
