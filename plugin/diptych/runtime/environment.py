"""Values from the environment: `${NAME}` and `${NAME:-default}` in a config are filled in only where they are used."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

from diptych.errors import ConfigError

_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:[^}$]|\$(?!\{))*+))?\}")


def interpolate(value: Any, *, where: str = "config") -> Any:
    """`value` with every `${NAME}` in its strings replaced, through lists and mappings.

    Raises:
        ConfigError: a variable is not set and has no default. The values of variables are never part of the text.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: _lookup(match, where), value)
    if isinstance(value, dict):
        return {key: interpolate(item, where=f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [interpolate(item, where=f"{where}[{n}]") for n, item in enumerate(value)]
    return value


def conceal(text: str, value: Any) -> str:
    """`text` with the values of the variables in `value` replaced by `${NAME}` again, for errors."""
    names = {match["name"] for match in _REFERENCE.finditer(repr(value))}
    values = {name: content for name in names if (content := os.environ.get(name))}
    for name, content in sorted(values.items(), key=lambda item: -len(item[1])):
        text = text.replace(content, f"${{{name}}}")
    return text


def references(text: str) -> list[str]:
    """The names of the variables that `text` refers to."""
    return [match["name"] for match in _REFERENCE.finditer(text)]


def refers(value: Any) -> bool:
    """Whether `value` refers to any variable."""
    return bool(_REFERENCE.search(repr(value)))


def _lookup(match: re.Match[str], where: str) -> str:
    value = os.environ.get(match["name"], match["default"])
    if value is None:
        raise ConfigError(
            f"environment variable {match['name']} is not set",
            where=where,
            got=match[0],
            do=f"export {match['name']}=... or write ${{{match['name']}:-default}}",
        )
    return value


def is_loopback(host: str) -> bool:
    """Whether the address is reachable only from this machine; among names only `localhost` counts."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
