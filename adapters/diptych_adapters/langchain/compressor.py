"""`DiptychCompressor`: a reranker as LangChain's `BaseDocumentCompressor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, PrivateAttr

from diptych import Reranker
from diptych.errors import AdapterOptionsError
from diptych.search import score
from diptych_adapters.frameworks.hit_details import SEARCH_KEY
from diptych_adapters.frameworks.sources import encoders_of
from diptych_adapters.langchain.documents import with_values


class DiptychCompressor(BaseDocumentCompressor):
    """Orders documents by a reranker, which reads the query and each `page_content`.

    Args:
        reranker: an adapter's name, or an object that satisfies `diptych.Reranker`.
        options: of the adapter; those of the pipeline of `source` unless given.
        source: a config, its path, an open collection, or `Encoders`.
        top_n: how many documents are kept; all unless given.

    Raises:
        RegistryError: the reranker is unknown, is none, or cannot be made.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    reranker: Any
    options: Mapping[str, Any] | None = Field(default=None, repr=False)
    source: Any = Field(default=None, repr=False)
    top_n: int | None = Field(default=None, ge=1)

    _reranker: Reranker = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Make the reranker."""
        reranker = self.reranker
        if isinstance(reranker, str):
            reranker = encoders_of(self.source).reranker(reranker, self.options)
        if not isinstance(reranker, Reranker):
            expected = "an adapter's name, or an object with predict, max_length and independent"
            raise AdapterOptionsError(
                "this cannot rerank", where="DiptychCompressor", got=type(reranker).__name__, expected=expected
            )
        self._reranker = reranker

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best documents, best first, with `relevance_score` in their metadata; equal scores keep their order.

        Raises:
            ContractError: the reranker returns the wrong number of scores, NaN or infinity.
        """
        scores = score(self._reranker, query, [document.page_content for document in documents])
        best = np.argsort(-scores, kind="stable")[: self.top_n]
        return [_scored(documents[index], float(scores[index])) for index in best]


def _scored(document: Document, score: float) -> Document:
    values = {"relevance_score": score}
    if isinstance(document.metadata.get(SEARCH_KEY), dict):  # a hit of diptych: it may be added again
        return with_values(document, values)
    return document.model_copy(update={"metadata": {**document.metadata, **values}})
