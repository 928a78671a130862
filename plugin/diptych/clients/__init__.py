"""qdrant-client's clients, in which `models.Document(text=..., model=NAME)` works with any encoder of diptych.

Begin with `open_client`, which makes the clients. `inference` finds inference objects in the arguments of a call
and encodes them. The package is not called `client`, since `diptych.client` is the function.
"""

import diptych.runtime.lazy_imports  # noqa: F401
from diptych.clients.inference import (
    AsyncInferenceClient,
    ClusterInferenceClient,
    InferenceClient,
    ServerInferenceClient,
)
from diptych.clients.open_client import AnyClient, ClientOptions, async_client, client

__all__ = [
    "AnyClient",
    "AsyncInferenceClient",
    "ClientOptions",
    "ClusterInferenceClient",
    "InferenceClient",
    "ServerInferenceClient",
    "async_client",
    "client",
]
