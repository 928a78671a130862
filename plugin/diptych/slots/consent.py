"""`Consent`: what a collection's stored settings may do on this machine, and who agreed to it.

Whoever may write to a store, or sends an export of a collection, writes its metadata, and with it the adapters and
options by which others open the collection. Options that a person wrote into a config are obeyed. The same options
out of a store may not send keys or texts to an address, read the environment or run code before somebody agrees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

from diptych.config.models import Config
from diptych.errors import NotTrusted, RegistryError
from diptych.plugins.factory import options_model
from diptych.registry import Registry
from diptych.runtime.environment import references
from diptych.runtime.passed_checks import recalled, remember

KIND = "consents"
CODE = {"trust_remote_code": "run Python code of", "allow_pickle_weights": "load pickled weights, which are code, of"}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_NAMED_ADDRESS = re.compile(r"url|uri|host|endpoint|server|address", re.IGNORECASE)
_agreed: set[str] = set()  # in this process, where nothing is remembered
_trusting: ContextVar[bool] = ContextVar("trusting", default=False)


@contextmanager
def trusting(agreed: bool) -> Iterator[None]:
    """Within the block, collections are opened with consent to what their stored settings ask for."""
    token = _trusting.set(agreed or _trusting.get())
    try:
        yield
    finally:
        _trusting.reset(token)


class Consent:
    """The consents for one collection. They are remembered for its name and the very same adapter and options.

    Args:
        name: the collection.
        registry: where adapters come from.
        config: the user's own, which agrees to what it says itself.
    """

    def __init__(self, name: str, registry: Registry, config: Config | None) -> None:
        self._name, self._registry, self._trust = name, registry, _trusting.get()
        if config is not None:
            self.state(config)

    def state(self, config: Config) -> None:
        """Agree to all that a config of the user's says."""
        for adapter, options in _stated(config):
            if self._demands(adapter, options):
                self._agree(self._subject(adapter, options))

    def require(self, adapter: str, options: Mapping[str, Any], *, where: str) -> None:
        """Refuse stored options that ask for more than to load safe weights.

        Raises:
            NotTrusted: nobody on this machine has agreed to it.
        """
        demands, subject = self._demands(adapter, options), self._subject(adapter, options)
        if not demands or subject in _agreed or recalled(KIND, subject, subject):
            return None
        if self._trust:
            return self._agree(subject)
        raise NotTrusted(
            "the collection asks for something that needs your consent",
            where=f"collection {self._name!r}, {where}, adapter {adapter!r}",
            got=f"with the options stored in it, it would {'; '.join(demands)}",
            expected="a config of yours that says the same, or your consent",
            do="only if you trust whoever wrote the collection: repeat the command with --trust, or in Python "
            "Collection.open(..., trust=True)",
        )

    def _agree(self, subject: str) -> None:
        _agreed.add(subject)
        remember(KIND, subject, subject, True)

    def _subject(self, adapter: str, options: Mapping[str, Any]) -> str:
        return json.dumps([self._name, adapter, options], sort_keys=True, default=str)

    def _demands(self, adapter: str, options: Mapping[str, Any]) -> list[str]:
        """What these options do besides loading safe weights, in words."""
        try:
            model = options_model(self._registry.spec(adapter))
        except RegistryError:  # an unknown adapter does nothing
            return []
        defaults = {name: field.default for name, field in model.model_fields.items()} if model else {}
        values = [*_walk("", {**defaults, **options})]
        code = [f"{CODE[name]} {options.get('model', adapter)}" for name, value in values if name in CODE and value]
        texts = [(name, value) for name, value in values if isinstance(value, str) and value]
        hosts = [_host(value) for name, value in texts if _ADDRESS.match(value) or _NAMED_ADDRESS.search(name)]
        keys = [value for name, value in texts if name.endswith("_env")]
        keys += [name for _, value in texts for name in references(value)]
        if not hosts:
            return [*code, *(f"read the environment variable {key}" for key in dict.fromkeys(keys))]
        sent = " and ".join(["texts", *dict.fromkeys(keys)])
        return [*code, *(f"send {sent} to {host}" for host in dict.fromkeys(hosts))]


def _stated(config: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for slot in config.slots.values():
        yield slot.adapter, slot.options
        if slot.student is not None:
            yield slot.student.adapter, slot.student.options
    for stage in config.search.rerank:
        yield stage.adapter, stage.options


def _walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values at every depth, each with the key that it stands under."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(str(key), item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _walk(name, item)
    else:
        yield name, value


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc.rpartition("@")[2] or address
    except ValueError:
        return address
