"""The client of the embedded store; apart from the others, since who uses servers alone never imports that store."""

from __future__ import annotations

from diptych.clients.inference import Inferring, infers, unknown
from diptych_edge import SharedEdgeClient


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
