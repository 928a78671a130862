"""`View`: an immutable snapshot of a collection, so that a search uses the same encoders from start to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from diptych.config.models import SearchConfig
from diptych.errors import AdapterOptionsError, CollectionError
from diptych.media import MediaStore
from diptych.metadata.models import CollectionMetadata, Reading, Tenancy
from diptych.metadata.payloads import Layout
from diptych.protocols import Reranker
from diptych.registry import Registry
from diptych.runtime.validation_messages import nearest
from diptych.slots.consent import named_by
from diptych.slots.slot import Slot

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


T = TypeVar("T")


class Rerankers:
    """The rerankers of a collection, each created at the first call and kept."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: list[tuple[str, dict[str, Any], Reranker]] = []
        self._lock = threading.Lock()

    def get(self, adapter: str, options: Mapping[str, Any], *, stored: bool = False) -> Reranker:
        """The reranker of this adapter with these options; `stored` if the collection itself names it.

        Raises:
            NotTrusted: it is stored, and nobody has agreed to what it asks for.
            RegistryError: it is unknown, is not a reranker, or cannot be created.
        """
        wanted = dict(options)
        # A list, not a dict: options may hold lists, which have no hash. The lock is held while the model loads, so
        # that two threads which search at once do not load it twice.
        with self._lock:
            for name, known, reranker in self._made:
                if name == adapter and known == wanted:
                    return reranker
            registry = self._registry if stored else self._registry.guarded(None)
            if (kind := registry.spec(adapter, where="rerank").kind) != "reranker":
                what = f"adapter {adapter!r} cannot rerank"
                raise AdapterOptionsError(what, where="rerank", got=kind, expected="a reranker")
            reranker = cast(Reranker, registry.create(adapter, wanted, where=f"reranker {adapter!r}"))
            self._made.append((adapter, wanted, reranker))
            return reranker


class Memo(Generic[T]):
    """A value that a module derives from views and keeps with each: a typed field of their caches.

    Args:
        make: makes the value of a view when it is first read.
    """

    def __init__(self, make: Callable[[View], T]) -> None:
        self._make = make

    def __call__(self, view: View) -> T:
        """The view's value; two threads that both find none get the same object."""
        return self.known(view) if self in view.memo else view.memo.setdefault(self, self._make(view))

    def known(self, view: View) -> T:
        """The value that was made already; KeyError where none was."""
        value: T = view.memo[self]
        return value


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Everything a search needs: client, slots and pipeline as they were live when it began.

    `memo` holds the values of every `Memo`. `layout` says where documents lie in
    payloads, `copies` which payload keys do not belong to documents. `has_media`: whether documents may have pictures
    or other media, so that payloads may hold their bytes.
    """

    client: QdrantBase
    name: str
    registry: Registry
    metadata: CollectionMetadata | None
    slots: Mapping[str, Slot]
    search_config: SearchConfig
    reading: Reading
    rerankers: Rerankers
    tenancy: Tenancy | None = None
    media: MediaStore | None = None
    memo: dict[Memo[Any], Any] = field(default_factory=dict)
    layout: Layout = field(init=False)
    copies: tuple[str, ...] = field(init=False)
    has_media: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "copies", self.metadata.copies if self.metadata else ())
        object.__setattr__(self, "layout", self.metadata.layout if self.metadata else Layout())
        stores_content = self.media is not None and self.media.config.store != "reference"
        has_media = stores_content or any(slot.reads_media for slot in self.slots.values())
        object.__setattr__(self, "has_media", has_media)

    def now(self) -> View:
        """This view itself, since it never changes. `CollectionHandle.now` may return a newer one."""
        return self

    def unremembered(self) -> View:
        """The same view without caches, those of query vectors included, so that a search takes its whole time."""
        config = self.search_config.model_copy(update={"remember": 0})
        return replace(self, search_config=config, memo={})

    def catch_up(self) -> None:
        """Does nothing; see `CollectionHandle.catch_up`."""

    def slot(self, name: str) -> Slot:
        """The slot of this name.

        Raises:
            CollectionError: there is none.
        """
        if name not in self.slots:
            raise CollectionError(
                f"the collection has no slot {name!r}",
                where=f"collection {self.name!r}",
                expected=", ".join(self.slots),
                do=nearest(name, self.slots),
            )
        return self.slots[name]

    def reranker(self, adapter: str, options: Mapping[str, Any]) -> Reranker:
        """The reranker, created at the first call and kept.

        Raises:
            NotTrusted: the collection names it, and nobody has agreed to what it asks for.
            RegistryError: it is unknown, is not a reranker, or cannot be created.
        """
        named = named_by(self.metadata) if self.metadata else []
        named += [(stage.label, stage.options) for stage in self.search_config.rerank]
        stored = any((name, dict(own)) == (adapter, dict(options)) for name, own in named)
        return self.rerankers.get(adapter, options, stored=stored)
