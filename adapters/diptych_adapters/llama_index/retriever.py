"""A collection's pipeline as LlamaIndex's retriever, and any reranker as its node postprocessor."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import IndexNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters
from qdrant_client import models

from diptych import Hit, Query, Reranker
from diptych.errors import SearchError
from diptych.search import BoostLike, Pipeline, Retrieve, score
from diptych_adapters.frameworks.hit_details import Content
from diptych_adapters.frameworks.media import Reads
from diptych_adapters.frameworks.sources import Opened, Source, collection_of, encoders_of
from diptych_adapters.llama_index.filters import qdrant_filter
from diptych_adapters.llama_index.nodes import hit_to_node


class DiptychRetriever(BaseRetriever):
    """Nodes that answer a query, best first, whoever filled the collection.

    A query is a text, or `QueryBundle("", image_path="lame.png")` with a picture, beside a text or alone.

    A node's score is that of the last stage. `node.metadata["diptych"]["stages"]` has the score of each stage, and
    `["explanation"]`, with `explain`, the explanation as JSON values. Where a slot has passages, `["passages"]` has
    text, start, end and score of each, best first; with `highlight`, `["highlight"]` has `sentence`, as a passage, and
    `words`, begin and end of each in the document's text.

    Args:
        source: an open collection or one tenant's view of it, or the path of a config file.
        similarity_top_k: nodes a query returns; the config's limit unless given.
        pipeline: stages instead of the config's.
        filters: LlamaIndex's metadata filters, or Qdrant's own filter.
        score_threshold: nodes whose final score is lower are dropped.
        boost, pin, exclude: as in `Collection.search`.
        explain: whether each node's metadata explains its rank, which costs a few more requests.
        content: what a node holds: "document", or "passage", the best passage alone, as prompts want it. Its source is
            the document, `start_char_idx` and `end_char_idx` are its place there, and `["passage"]` says the same.
        passages, highlight: as in `Collection.search`.
        callback_manager, object_map, objects, verbose: as in every retriever of LlamaIndex.

    Raises:
        ConfigError, StoreError, CollectionError: as `Collection.open`.
        SearchError: a filter that Qdrant cannot answer.
    """

    def __init__(
        self,
        source: str | Path | Opened,
        *,
        similarity_top_k: int | None = None,
        pipeline: Pipeline | Retrieve | None = None,
        filters: MetadataFilters | models.Filter | None = None,
        score_threshold: float | None = None,
        boost: BoostLike | None = None,
        pin: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        explain: bool = False,
        content: Content = "document",
        passages: int | None = None,
        highlight: bool | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(callback_manager, object_map, objects, verbose)
        self._collection = collection_of(source)
        self._content, self._explain = content, explain
        own_filter = filters if isinstance(filters, models.Filter) else qdrant_filter(self._collection, filters)
        choice: dict[str, Any] = {"filter": own_filter, "pipeline": pipeline}
        choice |= {"boost": boost, "pin": pin, "exclude": exclude}
        shown = {"passages": passages, "highlight": highlight}
        self._choice = choice
        self._options = {**choice, **shown, "limit": similarity_top_k, "score_threshold": score_threshold}

    @property
    def collection(self) -> Opened:
        """The collection, or the tenant's view of it."""
        return self._collection

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = _query_of(query_bundle)
        return self._scored(query, self._collection.search(query, **self._options))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = _query_of(query_bundle)
        hits = await self._collection.asearch(query, **self._options)
        return await asyncio.to_thread(self._scored, query, hits)

    def _scored(self, query: str | Query, hits: Sequence[Hit]) -> list[NodeWithScore]:
        explanations = self._explained(query, hits) if self._explain and hits else {}
        return [self._scored_node(hit, explanations.get(hit.id)) for hit in hits]

    def _scored_node(self, hit: Hit, explanation: Mapping[str, Any] | None) -> NodeWithScore:
        details: Mapping[str, Any] = {} if explanation is None else {"explanation": explanation}
        node = hit_to_node(hit, self._content, {"stages": dict(hit.stages), **details}, Reads.of(self._collection))
        return NodeWithScore(node=node, score=hit.score)

    def _explained(self, query: str | Query, hits: Sequence[Hit]) -> dict[str, Any]:
        explanations = self._collection.explain(query, ids=[hit.id for hit in hits], **self._choice)
        return {explanation.document.id: explanation.as_dict() for explanation in explanations}


def _query_of(bundle: QueryBundle) -> str | Query:
    """The bundle's text, with its picture if it has one."""
    return Query(bundle.query_str, media={"image": bundle.image_path}) if bundle.image_path else bundle.query_str


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

    top_n: int | None = Field(default=None, gt=0, description="Maximum nodes to return; None returns all.")
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
