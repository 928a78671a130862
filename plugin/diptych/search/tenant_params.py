"""Whose documents count: for a tenant's question the statistics behind IDF and the shards that are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.handle.snapshot import View
from diptych.handle.tenancy import narrowed
from diptych.search.store_errors import ask
from diptych.slots.slot import Slot
from diptych.stores.local import is_local

if TYPE_CHECKING:
    from diptych.search.request import Asked


def params_for(asked: Asked, slot: Slot, params: models.SearchParams | None) -> models.SearchParams | None:
    """The parameters with which a slot is searched: IDF counts the tenant's documents alone, where the store can."""
    if asked.scope is None or not _counts(slot, asked.handle):
        return params
    own = params.idf if params else None
    corpus = narrowed(asked.scope, own.corpus if isinstance(own, models.IdfCorpusParams) else None)
    assert corpus is not None, "a scope narrows to a filter"
    idf = models.IdfCorpusParams(corpus=corpus)
    return (params or models.SearchParams()).model_copy(update={"idf": idf})


def _counts(slot: Slot, view: View) -> bool:
    """Whether the slot's scores depend on how many documents have a term, and the store can say of how many."""
    if slot.kind == "text_index":
        return not is_local(view.client)
    return slot.kind == "sparse" and slot.vector in _with_idf(view)


def _with_idf(view: View) -> frozenset[str]:
    """The sparse vectors with an IDF modifier; a store refuses to be told whose documents count for any other."""
    known: frozenset[str] | None = view.kept.get("idf")
    if known is None:
        vectors = ask(view, lambda: view.client.get_collection(view.name)).config.params.sparse_vectors or {}
        known = frozenset(name for name, own in vectors.items() if own.modifier == models.Modifier.IDF)
        view.kept["idf"] = known
    return known


def shard_key(asked: Asked) -> dict[str, Any]:
    """The field of a request that names the tenant's shards; nothing where there are none."""
    tenancy = asked.handle.tenancy
    if asked.tenant is None or tenancy is None or not tenancy.shard_keys:
        return {}
    return {"shard_key": asked.tenant}


def shard_key_selector(asked: Asked) -> dict[str, Any]:
    """The same, as methods of the client call it."""
    own = shard_key(asked)
    return {"shard_key_selector": own["shard_key"]} if own else {}
