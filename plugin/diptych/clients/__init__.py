"""qdrant-client's clients, in which `models.Document(text=..., model=NAME)` works with any encoder of diptych.

Begin with `inference`: it makes the clients, finds inference objects in the arguments of a call and encodes them. The
package is not called `client`, since `diptych.client` is the function.
"""

import diptych.runtime.lazy_imports  # noqa: F401
from diptych.clients.inference import (
    AnyClient,
    AsyncInferenceClient,
    ClientOptions,
    ClusterInferenceClient,
    InferenceClient,
    ServerInferenceClient,
    async_client,
    client,
)

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
