"""Keeps what may be a secret out of everything that is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAMES = re.compile(r"key|token|secret|password|credential|authorization", re.IGNORECASE)
_HARMLESS = re.compile(r"tokens|tokeni[sz]er|token_(length|budget|weights)|(max|min)_token", re.IGNORECASE)
HIDDEN = "***"


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
