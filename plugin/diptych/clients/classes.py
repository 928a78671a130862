"""The clients of each kind of store, in which inference objects are encoded here."""

from __future__ import annotations

from typing import Any

from qdrant_client import AsyncQdrantClient, QdrantClient

from diptych.clients.decorators import infers, infers_later
from diptych.clients.inference import Resolver, unknown
from diptych.encoders import Encoders
from diptych.stores.cluster import ClusterClient
from diptych.stores.edge import SharedEdgeClient
from diptych.stores.server import ServerClient

_CORE_BM25 = "qdrant/bm25"  # qdrant-client's name for what the server computes


class Inferring:
    """What the clients share: `encoders`, which may be exchanged, say for those of a collection that is open."""

    _encoders: Encoders
    cloud_inference: bool = False

    @property
    def encoders(self) -> Encoders:
        """Who encodes, by the names that inference objects call their model; a slot goes before an adapter."""
        return self._encoders

    @encoders.setter
    def encoders(self, encoders: Encoders) -> None:
        self._encoders = encoders

    @property
    def _resolver(self) -> Resolver:
        return Resolver(self._encoders, self._goes_on)

    def _goes_on(self, model: str) -> bool:
        """Whether qdrant-client, or the server, has a model of this name."""
        return self.cloud_inference or model.lower() == _CORE_BM25 or model.lower() in _of_fastembed()


@infers
class InferenceClient(Inferring, QdrantClient):
    """A `QdrantClient` that encodes `models.Document`, `Image` and `InferenceObject` by encoders of diptych."""


@infers_later
class AsyncInferenceClient(Inferring, AsyncQdrantClient):
    """An `AsyncQdrantClient` that encodes inference objects by encoders of diptych, in a thread."""


@infers
class ServerInferenceClient(Inferring, ServerClient):
    """The client of a server that a config names."""


@infers
class ClusterInferenceClient(Inferring, ClusterClient):
    """The client of a cluster that a config describes."""


@infers
class EdgeInferenceClient(Inferring, SharedEdgeClient):
    """A `SharedEdgeClient` that encodes inference objects by encoders of diptych; it has no other models."""

    def get_embedding_size(self, model_name: str) -> int:
        """Numbers in a vector of this model.

        Raises:
            UnknownAdapter: there is no such encoder.
            AdapterOptionsError: it makes sparse vectors, which have no size.
        """
        raise unknown(self._encoders, model_name)

    def _goes_on(self, model: str) -> bool:
        return False


def _of_fastembed() -> frozenset[str]:
    """The models of FastEmbed that qdrant-client would run, in small letters; none where it is not installed."""
    lists: tuple[dict[str, Any], ...] = (
        QdrantClient.list_text_models(),
        QdrantClient.list_sparse_models(),
        QdrantClient.list_image_models(),
        QdrantClient.list_late_interaction_text_models(),
        QdrantClient.list_late_interaction_multimodal_models(),
    )
    return frozenset(name.lower() for models in lists for name in models)
