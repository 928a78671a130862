"""Values from the environment, and what options that somebody else wrote would do with it.

`${NAME}` and `${NAME:-default}` in a config are filled in only where they are used. `demands_of` tells what adapters
can do with options besides loading safe weights.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from diptych.errors import ConfigError, brief

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


# Options of other people's plugins are not known here. So names of options, in words joined by "_", and values tell.
_CODE = re.compile(r"trust|pickle|unsafe|remote_code")
_KEY = re.compile(r"(^|_)env(_|$)|(^|_)environment")
_NAMED_ADDRESS = re.compile(
    r"(^|_)(ur[il]s?|hosts?|endpoints?|address(es)?|servers?|prox(y|ies)|ports?|sockets?|domains?|base|gateway)(_|$)"
)
_NAMED_FILE = re.compile(
    r"(^|_)(paths?|folders?|dir|directory|files?|filename|module|class|factory|loader|plugin|script|command|library)(_|$)"
)
_MODELS = ("model", "tokenizer", "weights", "checkpoint", "student")  # safe weights are loaded from any folder
_MODULE = re.compile(r"^(?!wheel:)[A-Za-z_][\w.]*:[A-Za-z_/][\w./]*$")
_ADDRESS = re.compile(
    r"://|^//|^\\\\|\blocalhost\b|\b\d{1,3}(\.\d{1,3}){3}\b|^\[[0-9a-f:.]+\]"
    r"|^(?!(cpu|cuda|hpu|mps|npu|xpu):)[\w.-]+:\d+(/|$)|^[\w.-]+@[\w.-]+:\d",
    re.IGNORECASE,
)
_FILE = re.compile(r"^[/~]|^file:|(^|[/\\:])\.{1,2}([/\\]|$)|\\")


def demands_of(options: Mapping[str, Any], *, files: bool = True) -> list[str]:
    """What adapters can do with these options besides loading safe weights, in words; without `files`, open none."""
    found = [pair for name, value in options.items() for pair in _reaches(str(name), value)]
    kinds = {kind: list(dict.fromkeys(value for own, value in found if own == kind)) for kind, _ in found}
    keys, hosts = kinds.get("key", []), list[str]()
    for address in kinds.get("address", ()):
        with suppress(ValueError):
            address = urlsplit(address).netloc.rpartition("@")[2] or address
        hosts.append(brief(address)[1:-1])
    demands = [f"run code: {name}" for name in kinds.get("code", ())]
    if hosts:
        demands += [f"send {' and '.join(['texts', *keys])} to {host}" for host in dict.fromkeys(hosts)]
    else:
        demands += [f"read the environment variable {key}" for key in keys]
    return demands + [f"open {file}" for file in kinds.get("file", ()) if files]


def _reaches(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """What an option, or each part of it, reaches: "key", "address", "code" or "file", and its name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _reaches(str(key), item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _reaches(name, item)
    elif value is not None and value is not False:
        words, text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower(), str(value)
        yield from (("key", variable) for variable in references(text))
        if _CODE.search(words):
            yield "code", name
        elif _KEY.search(words):
            yield "key", brief(text)[1:-1]
        elif value is not True and (_NAMED_ADDRESS.search(words) or (isinstance(value, str) and _ADDRESS.search(text))):
            yield "address", text
        elif isinstance(value, str) and _is_file(words, text):
            yield "file", brief(text)


def _is_file(words: str, text: str) -> bool:
    if words in _MODELS or _MODULE.search(text):
        return bool(_MODULE.search(text))
    is_path = bool(_FILE.search(text)) or ("/" in text and os.path.lexists(text))
    return bool(text) and (is_path or bool(_NAMED_FILE.search(words)))
