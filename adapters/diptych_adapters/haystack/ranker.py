"""A ranker for any reranker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import Secret

from diptych import Reranker
from diptych.errors import SearchError
from diptych.search import score
from diptych_adapters.frameworks import in_thread
from diptych_adapters.frameworks.sources import Source
from diptych_adapters.haystack.documents import checked, text_of
from diptych_adapters.haystack.encoder_choice import Choice, unserializable


@component
class DiptychRanker:
    """Documents in the order of a reranker's scores.

    Args:
        reranker: an adapter, or any object that satisfies `diptych.Reranker`; `cross-encoder` unless given.
        options: of the adapter; those of the pipeline of `source` unless given.
        source: a config, its path, an open collection, or `Encoders`.
        api_key: of a remote adapter: a secret from the environment.
        top_k: number of documents to return; all by default.
        meta_fields_to_embed: keys of `meta` whose values the reranker reads before the content.
        embedding_separator: stands between them.
    """

    def __init__(
        self,
        reranker: str | Reranker = "cross-encoder",
        *,
        options: dict[str, Any] | None = None,
        source: Source = None,
        api_key: Secret | None = None,
        top_k: int | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        self._source = reranker
        self._choice = Choice(reranker, options, source, api_key) if isinstance(reranker, str) else None
        self.top_k = require_top_k(top_k)
        self.meta_fields_to_embed, self.embedding_separator = meta_fields_to_embed or [], embedding_separator

    @property
    def reranker(self) -> Reranker:
        """The reranker.

        Raises:
            ConfigError, RegistryError: see diptych.errors.
        """
        return self._choice.reranker() if self._choice else self._source  # type: ignore[return-value]  # no str here

    def warm_up(self) -> None:
        """Load the reranker."""
        _ = self.reranker

    warm_up_async = in_thread(warm_up)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """The documents, each once, with the reranker's `score`, best first.

        Raises:
            UnusableDocument: one is not a document, or has no text.
            ContractError, RegistryError: see diptych.errors.
        """
        limit = self.top_k if top_k is None else require_top_k(top_k)
        unique = list({document.id: document for document in checked(documents)}.values())
        if not unique:
            return {"documents": []}
        fields, separator = self.meta_fields_to_embed, self.embedding_separator
        scores = score(self.reranker, query, [text_of(document, fields, separator) for document in unique])
        scored = [replace(document, score=float(value)) for document, value in zip(unique, scores, strict=True)]
        return {"documents": sorted(scored, key=lambda document: -(document.score or 0.0))[:limit]}

    run_async = in_thread(run)

    def to_dict(self) -> dict[str, Any]:
        """The component as names.

        Raises:
            NotSerializable: it was made of a reranker, not of a name.
        """
        if self._choice is None:
            raise unserializable(self, self._source)
        return default_to_dict(
            self,
            reranker=self._source,
            top_k=self.top_k,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            **self._choice.init_parameters(self),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` wrote."""
        return default_from_dict(cls, data)


def require_top_k(top_k: int | None) -> int | None:
    """`top_k`; raises if it is not a number of documents.

    Raises:
        SearchError: it is not.
    """
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
        raise SearchError(
            "top_k is not a number of documents", got=repr(top_k), expected="an integer, 1 or more, or None"
        )
    return top_k
