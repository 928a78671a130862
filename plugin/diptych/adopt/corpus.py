"""Corpus statistics of an adopted collection, for encoders that live on them, such as BM25 on the average length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from diptych.metadata.models import Layout, Reading
from diptych.metadata.payloads import from_payload, text_fields
from diptych.populate.statistics import batched, summed
from diptych.protocols import Calibrated, Statistics
from diptych.slots.slot import Slot

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

PAGE = 512  # points read in one call


def calibrate(slots: Mapping[str, Slot], texts: Iterable[str]) -> dict[str, Statistics]:
    """Measure the texts with each encoder that lives on statistics, and calibrate it by them."""
    wanted = {name: slot for name, slot in slots.items() if isinstance(slot.encoder, Calibrated)}
    if not wanted:
        return {}
    sums: dict[str, Statistics] = {name: {} for name in wanted}
    for batch in batched(texts, PAGE):
        sums = {name: summed(sums[name], slot, batch) for name, slot in wanted.items()}
    for name, slot in wanted.items():
        slot.encoder.calibrate(sums[name])
    return sums


def texts_of(client: QdrantBase, name: str, layout: Layout, reading: Reading) -> Iterator[str]:
    """What encoders read of each point of the collection that has a text, page by page."""
    offset: Any = None
    while True:
        records, offset = client.scroll(
            name, limit=PAGE, offset=offset, with_payload=text_fields(layout), with_vectors=False
        )
        for record in records:
            document = from_payload(record.id, record.payload, layout)
            if text := reading.of(document.title, document.text):
                yield text
        if offset is None:
            return
