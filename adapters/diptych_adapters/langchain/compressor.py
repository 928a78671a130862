"""`DiptychCompressor`: a reranker as LangChain's `BaseDocumentCompressor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, PrivateAttr

from diptych import Reranker
from diptych.encoders import Encoders
from diptych.errors import AdapterOptionsError
from diptych.search import score
from diptych_adapters.frameworks.hit_details import SEARCH_KEY
from diptych_adapters.langchain.documents import with_values


class DiptychCompressor(BaseDocumentCompressor):
    """Orders documents by a reranker, which reads the query and each `page_content`.

    Args:
        reranker: an adapter's name, or an object that satisfies `diptych.Reranker`.
        options: of the adapter; those of the pipeline of `encoders` unless given.
        top_n: how many documents are kept; all unless given.
        encoders: where the adapter comes from, such as `collection.encoders`; what is installed unless given.

    Raises:
        RegistryError: the reranker is unknown, is none, or cannot be made.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    reranker: Any
    options: Mapping[str, Any] | None = Field(default=None, repr=False)
    top_n: int | None = Field(default=None, ge=1)
    encoders: Encoders | None = Field(default=None, repr=False)

    _reranker: Reranker = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Make the reranker."""
        reranker = self.reranker
        if isinstance(reranker, str):
            reranker = (self.encoders or Encoders.open()).reranker(reranker, self.options)
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
