"""Shows the values of a config as they stand in it."""

from __future__ import annotations

from collections.abc import Mapping


def as_written(value: object) -> str:
    """A value in one line, as YAML has it, without what is not set: `{tokens: 200, overlap: 40}`; `unset` for None."""
    if isinstance(value, str) and (value.strip() != value or not value or not value.isprintable()):
        return repr(value)  # such as a separator, of which nothing would be seen
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {as_written(item)}' for key, item in value.items() if item is not None)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_written, value))}]"
    return "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
