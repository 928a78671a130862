"""Resolves what a `Collection` is opened from: a config, a store and a name, or a client."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.config import Config, check_adapters, load_config, parse_config
from diptych.errors import CollectionError, ConfigError, brief
from diptych.registry import Registry
from diptych.stores import is_store_url, open_store, open_store_of
from diptych.types import is_unicode

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


def name_of(name: str | None, config: Config | None) -> str:
    """The collection's name: the given one, else the config's.

    Raises:
        CollectionError: neither names one, or what is named is not text.
    """
    wanted = name or (config.collection if config else None)
    if wanted is None:
        raise CollectionError("no collection is named", do='Collection.open(store, "name") or a config file')
    if not isinstance(wanted, str) or not is_unicode(wanted) or "\0" in wanted:
        got = brief(wanted)
        raise CollectionError("this cannot be the name of a collection", got=got, expected="text that is valid Unicode")
    return wanted


def config_at(source: object, registry: Registry) -> Config:
    """The config given as `source`: an object, a mapping or a file.

    Raises:
        ConfigError, CollectionError: it cannot be used, or is none.
    """
    config = config_of(source, registry)
    if config is None:
        raise CollectionError("not a config", got=brief(source), expected="a config file, a mapping or a Config")
    return config


def config_of(source: object, registry: Registry) -> Config | None:
    """The config given as `source`, or None for a store or a client."""
    if isinstance(source, Path) or (isinstance(source, str) and not is_store_url(source)):
        source = load_config(source)
    elif isinstance(source, Mapping):
        source = parse_config(source)
    if not isinstance(source, Config):
        return None
    check_adapters(source, registry)
    return source


def client_of(
    source: Any, config: Config | None, registry: Registry, create: bool, api_key: str | None = None
) -> tuple[QdrantBase, bool]:
    """The client, and whether this call opened it.

    Raises:
        ConfigError: a key is given for something other than a store's URL.
    """
    if api_key is not None and (config is not None or not isinstance(source, str | list | tuple)):
        raise ConfigError(
            "api_key goes with a store's URL",
            got="a client, which has its own" if config is None else "a config, which names its own",
            do="write `api_key: ${QDRANT_API_KEY}` into the config" if config else "leave api_key out",
        )
    if config is not None:
        return open_store_of(config, registry=registry, create=create), True
    if isinstance(source, str | list | tuple):
        return open_store(source, api_key=api_key, registry=registry, create=create), True
    return source, False
