"""qdrant-client's clients, in which `models.Document(text=..., model=NAME)` takes any encoder of diptych.

The package is not called `client`, so that `diptych.client` is the function.
"""

from diptych.clients.classes import (
    AsyncInferenceClient,
    ClusterInferenceClient,
    EdgeInferenceClient,
    InferenceClient,
    ServerInferenceClient,
)
from diptych.clients.open_client import AnyClient, ClientOptions, async_client, client

__all__ = [
    "AnyClient",
    "AsyncInferenceClient",
    "ClientOptions",
    "ClusterInferenceClient",
    "EdgeInferenceClient",
    "InferenceClient",
    "ServerInferenceClient",
    "async_client",
    "client",
]
