"""Warnings of a plan about text that its slots, and the stages after them, leave unread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diptych.config.models import Config
from diptych.config.pipeline import RerankStage
from diptych.errors import RegistryError
from diptych.handle.collection_handle import CollectionHandle
from diptych.reports import UnreadTokens
from diptych.slots.unread import MOST_UNREAD, PASSAGE, PER_CHARACTER, unread_warnings
from diptych.types import Document

SHORT = 128  # tokens that every reranker reads: for shorter documents none is loaded


def reading_warnings(
    handle: CollectionHandle, config: Config, documents: Sequence[Document], unread: Mapping[str, UnreadTokens]
) -> list[str]:
    """A sentence for each slot and stage that leaves too much unread, with what to do.

    A slot that only rescores finds nothing by itself: it judges what others have found.

    Args:
        handle: the open collection.
        config: the config that is compared.
        documents: a sample.
        unread: by slot, what its encoder leaves unread of the sample.
    """
    rescore = config.search.rescore
    rescorer = rescore.slot if rescore and rescore.slot not in config.search.retrieved(config.slots) else ""
    warnings = unread_warnings({name: found for name, found in unread.items() if name != rescorer})
    if rescore is not None and (found := unread.get(rescore.slot)) and found.longer > MOST_UNREAD * found.documents:
        warnings.append(_rescore_warning(rescore.slot, found))
    texts = [handle.view.reading.of(document.title, document.text) for document in documents]
    return [*warnings, *_rerank_warnings(handle, config, list(map(_tokens, texts)))]


def _rescore_warning(slot: str, unread: UnreadTokens) -> str:
    tokens = min(PASSAGE, unread.max_tokens)
    return (
        f"search.rescore judges long documents by their beginning: slot {slot!r} has no passages, and {unread}. "
        f"Give the slot passages: {{tokens: {tokens}}}, or leave the stage out if diptych evaluate shows that it loses"
    )


def _rerank_warnings(handle: CollectionHandle, config: Config, tokens: Sequence[int]) -> list[str]:
    if max(tokens, default=0) <= SHORT:
        return []
    search = config.search
    names = {*search.retrieved(config.slots), *([search.rescore.slot] if search.rescore else [])}
    passages = any(config.slots[name].passages for name in names if name in config.slots)
    return [
        warning
        for number, stage in enumerate(search.rerank)
        if not passages or stage.read == "document" or stage.explore
        if (warning := _rerank_warning(handle, f"search.rerank[{number}]", stage, tokens, passages=passages))
    ]


def _rerank_warning(
    handle: CollectionHandle, place: str, stage: RerankStage, tokens: Sequence[int], *, passages: bool
) -> str:
    """A sentence about one stage that reads the beginning of documents; empty if it reads most of them whole."""
    try:
        limit = handle.view.reranker(stage.adapter, stage.options).max_length
    except RegistryError:  # the search, and the gate of an apply, say why
        return ""
    longer = sum(count > limit for count in tokens) if limit is not None else 0
    if longer <= MOST_UNREAD * len(tokens):
        return ""
    do = f"give a slot that is searched passages: {{tokens: {PASSAGE}}}, whose best ones it then reads"
    if passages:
        do = "leave out read: document, and it reads the best passages"
    if stage.explore:
        do = "use a reranker that reads more: with explore it reads no passages"
    return (
        f"{place} ({stage.adapter}) judges long documents by their beginning: it reads {limit:,} tokens of query and "
        f"document, and about {longer:,} of a sample of {len(tokens):,} documents are longer. To let it read more, {do}"
    )


def _tokens(text: str) -> int:
    """The number of tokens, estimated."""
    return round(len(text) * PER_CHARACTER)
