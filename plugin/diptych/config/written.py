"""Values as a config file has them, and their YAML."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any


def as_written(value: object) -> str:
    """A value in one line, as YAML has it, without what is not set: `{tokens: 200, overlap: 40}`; `unset` for None."""
    if isinstance(value, str) and (value.strip() != value or not value or not value.isprintable()):
        return repr(value)  # such as a separator, of which nothing would be seen
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {as_written(item)}' for key, item in value.items() if item is not None)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_written, value))}]"
    return "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def yaml_of(value: object, *, indent: int = 2) -> str:
    """The value as YAML of many lines, each level `indent` columns to the right of the one above."""
    from ruamel.yaml import YAML

    stream, yaml = StringIO(), YAML()
    yaml.default_flow_style, yaml.map_indent = False, indent
    yaml.dump(value, stream)
    return stream.getvalue()


def plain_values(text: str) -> Any:
    """What YAML says, as plain values."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)
