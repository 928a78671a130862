"""`Consent`: what a collection's stored settings may do on this machine, and who agreed to it.

Whoever may write to a store, or sends an export of a collection, writes its metadata, and with it the adapters and
options by which others open the collection. Options that a person wrote into a config are obeyed. The same options
out of a store may not send keys or texts to an address, read the environment, open files or run code before somebody
agrees.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4
from weakref import WeakKeyDictionary

import platformdirs

from diptych.config.models import Config
from diptych.errors import NotTrusted, RegistryError
from diptych.factory import options_model
from diptych.metadata.models import CollectionMetadata
from diptych.registry import Registry
from diptych.runtime.environment import demands_of
from diptych.runtime.untrusted import plain_file

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

Named: TypeAlias = tuple[str, Mapping[str, Any]]  # an adapter and its options
FILE = "trusted.jsonl"  # in the user's state folder: a line for each consent; removing it takes the consent back
_MEMORIES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # names of `memory:` stores
_agreed: set[str] = set()  # in this process, of stores in memory too
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
    """The consents for one collection. They are remembered for its store, its name and the very same options.

    Args:
        client, name: the collection.
        registry: where adapters come from.
        config: the user's own, which agrees to what it says itself.
    """

    def __init__(self, client: QdrantBase, name: str, registry: Registry, config: Config | None) -> None:
        self._store, self._name, self._registry, self._trust = place_of(client), name, registry, _trusting.get()
        embedded = self._store.startswith(("edge:", "local:"))
        self._url = self._store if embedded else (getattr(client, "init_options", None) or {}).get("url") or "URL"
        if config is not None:
            self.state(config)

    def state(self, config: Config) -> None:
        """Agree to all that a config of the user's says."""
        self._agree(same for stated in config.adapters for same in self._registry.spellings(*stated))

    def agree(self, metadata: CollectionMetadata) -> None:
        """Agree to all that the collection says now, if it is opened with consent."""
        if self._trust:
            self._agree(named_by(metadata))

    def require(self, adapter: str, options: Mapping[str, Any], where: str) -> None:
        """Refuse stored options that ask for more than to load safe weights.

        Raises:
            NotTrusted: nobody on this machine has agreed to it.
        """
        demands, subject = self._demands(adapter, options), self._subject(adapter, options)
        if not demands or subject in _agreed or subject in _remembered():
            return
        opened = f"--store {shlex.quote(self._url)} --collection {shlex.quote(self._name)}"
        raise NotTrusted(
            "the collection asks for something that needs your consent",
            where=f"collection {self._name!r}, {where}, adapter {adapter!r}",
            got=f"with the options stored in it, it would {'; '.join(demands)}",
            expected="a config of yours that says the same, or your consent",
            do=f"only if you trust whoever wrote the collection: diptych info {opened} --trust, or in Python "
            "Collection.open(..., trust=True)",
        )

    def _agree(self, named: Iterable[Named]) -> None:
        new = {self._subject(*each): each[0] for each in named if self._demands(*each)}
        if new.keys() <= _agreed:
            return
        facts = {"store": self._store, "collection": self._name}
        lines = [{"consent": key, **facts, "adapter": new[key]} for key in new.keys() - _remembered()]
        _agreed.update(new)
        if lines and not self._store.startswith("memory:"):
            with suppress(OSError):  # a home that cannot be written: this process goes on
                _path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with open(_path(), "a", encoding="utf-8", opener=plain_file) as file:
                    file.write("".join(json.dumps(line) + "\n" for line in lines))

    def _subject(self, adapter: str, options: Mapping[str, Any]) -> str:
        facts = [self._store, self._name, adapter, options]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def _demands(self, adapter: str, options: Mapping[str, Any]) -> list[str]:
        """What these options do besides loading safe weights, in words."""
        try:
            spec = self._registry.spec(adapter).with_options(options)
            if not spec.remote:
                return demands_of(options)
            model = options_model(spec)
        except RegistryError:  # an unknown adapter does nothing
            return []
        defaults = {name: field.default for name, field in model.model_fields.items()} if model else {}
        return demands_of({**defaults, **options}) or ["send texts to the address of its adapter"]


def named_by(metadata: CollectionMetadata) -> list[Named]:
    """The adapters that a collection names: of what is live, being built and kept, and of the pipelines."""
    swap = metadata.swap
    states = [state for state in (metadata.live, metadata.previous, swap.target if swap else None) if state is not None]
    made = [generation for state in states for generation in state.slots.values()]
    made += [asking.generation for state in states for asking in state.asking.values()]
    searches = (metadata.search, metadata.previous_search, swap.search if swap else None)
    stages = [stage for search in searches for stage in (search or {}).get("rerank") or ()]
    return [(own.adapter, own.options) for own in made] + [(own["adapter"], own.get("options") or {}) for own in stages]


def _remembered() -> set[str]:
    """The consents of the user's file; none where it cannot be read."""
    try:
        with open(_path(), encoding="utf-8", opener=plain_file) as lines:
            return {json.loads(line)["consent"] for line in lines}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _path() -> Path:
    return platformdirs.user_state_path("diptych", appauthor=False) / FILE


def place_of(client: QdrantBase) -> str:
    """The store behind a client, the same text in every process and without secrets.

    `edge:/folder`, a server's host and port, or a name that only this `memory:` store has.
    """
    path = getattr(client, "path", None)
    if path is not None:
        return f"edge:{path}"
    options = getattr(client, "init_options", None)
    if options is None:
        return type(client).__qualname__
    if options.get("location") == ":memory:":
        return _MEMORIES.setdefault(client, f"memory:{uuid4().hex[:12]}")
    if options.get("path") is not None:
        return f"local:{options['path']}"
    url = options.get("url") or options.get("location")
    if not url:
        port = options.get("grpc_port") if options.get("prefer_grpc") else options.get("port")
        return f"{options.get('host') or 'localhost'}:{port}"
    parts = urlsplit(str(url) if "://" in str(url) else f"http://{url}")
    port = parts.port or options.get("port") or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}{parts.path.rstrip('/')}"
