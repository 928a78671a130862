"""`DiptychReranker`: any reranker as LlamaIndex's node postprocessor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from diptych import Reranker
from diptych.errors import SearchError
from diptych.search import score
from diptych_adapters.frameworks.sources import Source, encoders_of


class DiptychReranker(BaseNodePostprocessor):
    """Reorders nodes by a reranker's scores, which reads what LlamaIndex gives an encoder: metadata and text.

    Args:
        reranker: name of an adapter, or an object that satisfies `diptych.Reranker`.
        options: of the adapter; those of the pipeline of `source` unless given.
        source: a config, its path, an open collection, or `Encoders`.
        top_n: nodes that are passed on; all of them unless given.
        callback_manager: as in every postprocessor of LlamaIndex.

    Raises:
        ConfigError, RegistryError: see diptych.errors.
    """

    top_n: int | None = Field(default=None, gt=0, description="Nodes that are passed on; all of them for None.")
    name: str = Field(description="Name of the adapter, or of the object's class.")
    _reranker: Reranker = PrivateAttr()

    def __init__(
        self,
        reranker: str | Reranker,
        *,
        options: Mapping[str, Any] | None = None,
        source: Source = None,
        top_n: int | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        name = reranker if isinstance(reranker, str) else type(reranker).__name__
        super().__init__(name=name, top_n=top_n, callback_manager=callback_manager or CallbackManager([]))
        opened = encoders_of(source).reranker(reranker, options) if isinstance(reranker, str) else reranker
        self._reranker = opened

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes into what it serialises."""
        return "DiptychReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            what = "a reranker needs the query"
            raise SearchError(what, where=f"DiptychReranker {self.name!r}", do="give query_str or query_bundle")
        if not nodes:
            return []
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        scores = score(self._reranker, query_bundle.query_str, texts).tolist()
        scored = [NodeWithScore(node=item.node, score=value) for item, value in zip(nodes, scores, strict=True)]
        return sorted(scored, key=lambda node: -node.get_score())[: self.top_n]
