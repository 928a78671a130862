"""`Choice`: the encoder or reranker that a component uses, opened when first needed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from haystack.utils import Secret
from haystack.utils.auth import SecretType

from diptych import Reranker
from diptych.encoders import Encoders, NamedEncoder
from diptych.errors import ConfigError
from diptych_adapters.haystack.errors import NotSerializable
from diptych_adapters.haystack.shared_resources import Shared

_OPEN: Shared[Encoders] = Shared()


class Choice:
    """An encoder or reranker by name; components of a process with the same name and config share it.

    Args:
        name: a slot of the config, a reranker, or an adapter.
        model: the adapter's option of this name, which most have.
        config: path of a config file, or a mapping with its content; None if the adapter is enough.
        options: further ones of an adapter that is no slot.
        api_key: of a remote adapter: an environment variable, whose name takes the place of its `api_key_env`.
    """

    def __init__(
        self,
        name: str,
        model: str | None,
        config: str | dict[str, Any] | None,
        options: dict[str, Any] | None,
        api_key: Secret | None,
    ) -> None:
        self.name, self.model, self.config, self.options, self.api_key = name, model, config, options, api_key

    def init_parameters(self) -> dict[str, Any]:
        """Its part of `to_dict`, besides the name."""
        api_key = self.api_key and self.api_key.to_dict()
        return {"model": self.model, "config": serializable(self.config), "options": self.options, "api_key": api_key}

    def encoder(self) -> NamedEncoder:
        """The encoder.

        Raises:
            ConfigError, UnknownAdapter, AdapterOptionsError: see diptych.errors.
        """
        return self._encoders().with_options(self.name, self._adapter_options())

    def reranker(self) -> Reranker:
        """The reranker, with the options that the config's pipeline gives it unless there are others.

        Raises:
            ConfigError, RegistryError: see diptych.errors.
        """
        return self._encoders().reranker(self.name, self._adapter_options() or None)

    def _encoders(self) -> Encoders:
        return _OPEN.acquire(source_key(self.config), self, lambda: Encoders.open(self.config))

    def _adapter_options(self) -> dict[str, Any]:
        model = {"model": self.model} if self.model else {}
        key = {"api_key_env": variable_name(self.api_key)} if self.api_key else {}
        return {**model, **(self.options or {}), **key}


def variable_name(secret: Secret) -> str:
    """The environment variable of the secret: the first one that is set, else the first.

    Raises:
        ConfigError: the secret is no variable.
    """
    if secret.type is not SecretType.ENV_VAR:
        raise ConfigError(
            "the key of a remote adapter is read from the environment",
            got="a secret that holds the token itself",
            expected='Secret.from_env_var("NAME")',
        )
    names: list[str] = secret.to_dict()["env_vars"]
    return next((name for name in names if name in os.environ), names[0])


def source_key(source: str | Mapping[str, Any] | None) -> Hashable:
    """A key that is equal for sources with the same content."""
    if isinstance(source, Mapping):
        return json.dumps(source, sort_keys=True, default=str)
    return str(Path(source).absolute()) if source is not None and Path(source).exists() else source


def serializable(config: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """The config in a form that YAML can hold.

    Raises:
        NotSerializable: it contains the server's key in plain text.
    """
    key = config.get("api_key") if isinstance(config, dict) else None
    if key is not None and not re.fullmatch(r"\$\{\w+\}", str(key)):
        do = "name the variable that holds it: api_key: ${QDRANT_API_KEY}"
        raise NotSerializable("a config with a key in clear is not written as YAML", where="api_key", do=do)
    return config


def unserializable(component: object, value: object) -> NotSerializable:
    """The error for a component that was made from an object."""
    return NotSerializable(
        f"a {type(component).__name__} that holds an object cannot be written as YAML",
        got=type(value).__name__,
        do="make it of names: of a config file, a slot, an adapter; and filters in Haystack's words",
    )
