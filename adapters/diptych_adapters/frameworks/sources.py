"""Where the encoders of a framework's component come from: its arguments `encoder`, `options` and `source`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from diptych import Collection, TenantCollection
from diptych.config import Config
from diptych.encoders import Encoders, NamedEncoder
from diptych.errors import AdapterOptionsError

Opened: TypeAlias = Collection | TenantCollection
Source: TypeAlias = str | Path | Mapping[str, Any] | Config | Opened | Encoders | None


def collection_of(source: str | Path | Opened) -> Opened:
    """The open collection, or one tenant's view of it, or that of a config file."""
    return source if isinstance(source, Opened) else Collection.open(source)


def encoders_of(source: Source) -> Encoders:
    """The encoders of a config or an open collection; of the installed adapters alone for None."""
    if isinstance(source, Encoders):
        return source
    return source.encoders if isinstance(source, Opened) else Encoders.open(source)


def encoder_of(
    source: Source, name: str | None, options: Mapping[str, Any] | None, kind: Literal["dense", "sparse"]
) -> NamedEncoder:
    """The encoder of this name, an adapter with these options; for None the only slot of this kind.

    Raises:
        UnknownAdapter: there is none of this name.
        AdapterOptionsError: it is of another kind, or no name is given and there is not exactly one slot of the kind.
    """
    encoders = encoders_of(source)
    return encoders.with_options(name or _only(encoders, kind), options or {}).required(kind)


def _only(encoders: Encoders, kind: Literal["dense", "sparse"]) -> str:
    slots = encoders.of_kind(kind)
    if len(slots) != 1:
        raise AdapterOptionsError(
            f"which {kind} encoder is meant?",
            where="encoder",
            got=f"{kind} slots: {', '.join(slots) or 'none'}",
            expected="one",
            do='name a slot or an adapter: encoder="NAME"',
        )
    return slots[0]
