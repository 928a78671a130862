"""`Named`: an encoder of diptych by name, the base of both kinds of embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from diptych.encoders import Encoders


class Named:
    """An encoder of one kind.

    Args:
        encoders: of a config, of an open collection (`collection.encoders`), or of the installed adapters.
        name: of a slot or an adapter.
        options: of the adapter.

    Raises:
        UnknownAdapter, AdapterOptionsError: there is no such encoder, or it is of another kind.
    """

    kind: ClassVar[Literal["dense", "sparse"]]

    def __init__(self, encoders: Encoders, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.encoder = encoders.with_options(name, options or {}).required(self.kind)

    @classmethod
    def open(cls, config: str | Path, slot: str) -> Self:
        """The encoder of a slot of a config file; the store is not opened.

        Raises:
            ConfigError, UnknownAdapter, AdapterOptionsError: see diptych.errors.
        """
        return cls(Encoders.open(config), slot)

    @classmethod
    def of(cls, adapter: str, options: Mapping[str, Any] | None = None) -> Self:
        """The encoder of an installed adapter, with its options.

        Raises:
            UnknownAdapter, AdapterOptionsError: see diptych.errors.
        """
        return cls(Encoders.open(), adapter, options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.encoder.name!r})"
