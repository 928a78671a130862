"""`CorpusSample`: detects whether corpus averages have shifted since an encoder was calibrated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import Layout
from diptych.metadata.payloads import from_payload
from diptych.metadata.reading import Reading
from diptych.populate.statistics import TOLERANCE
from diptych.protocols import Calibrated, Statistics
from diptych.slots.calibration_texts import texts_of
from diptych.swap.sample import FETCH, sample_points
from diptych.types import Document

SIZE = 1000  # points; the average length of texts is then known to 3% or so
ERRORS = 3.0  # standard errors by which a shift must exceed the tolerance, so that noise is not reported


class CorpusSample:
    """Documents drawn evenly from a collection, read when the first encoder needs them."""

    def __init__(self, handle: CollectionHandle, layout: Layout, *, size: int = SIZE) -> None:
        self._client, self._name, self._layout, self._size = handle.client, handle.name, layout, size
        self._documents: list[Document] | None = None
        self._points = 0

    def shift(self, encoder: Calibrated, then: Statistics, reading: Reading) -> str:
        """A sentence on each average that has changed by over a tenth since the calibration; empty if none has."""
        texts = texts_of(self._read(), reading)
        if not texts or not then.get("documents"):
            return ""
        rows = [encoder.measure([text]) for text in texts]
        moved = {key: self._moved([row.get(key, 0.0) for row in rows], then[key] / then["documents"]) for key in then}
        return "; ".join(
            f"the average of {key} a document moved by {change:+.0%} since the encoder was calibrated"
            for key, change in moved.items()
            if change and key != "documents"
        )

    def _moved(self, values: Sequence[float], average: float) -> float:
        """The relative change of an average; 0 unless it exceeds the tolerance significantly."""
        if not average:
            return 0.0
        left_out = max(0.0, 1 - len(values) / self._points)
        error = float(np.std(values)) * math.sqrt(left_out / len(values))
        change = float(np.mean(values)) - average
        return change / average if abs(change) - ERRORS * error > TOLERANCE * average else 0.0

    def _read(self) -> list[Document]:
        if self._documents is None:
            points = sample_points(self._client, self._name, self._size)
            self._points = max(len(points), self._client.count(self._name, exact=True).count)
            self._documents = [
                from_payload(record.id, record.payload, self._layout)
                for start in range(0, len(points), FETCH)
                for record in self._client.retrieve(self._name, points[start : start + FETCH], with_payload=True)
            ]
        return self._documents
