"""The client of the embedded store; apart from the others, since who uses servers alone never imports that store."""

from __future__ import annotations

from diptych.clients.inference import Inferring
from diptych_edge import SharedEdgeClient


class EdgeInferenceClient(Inferring, SharedEdgeClient):
    """A `SharedEdgeClient` that encodes inference objects by encoders of diptych; it has no other models."""

    def _goes_on(self, model: str) -> bool:
        return False
