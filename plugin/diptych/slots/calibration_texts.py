"""Texts of a collection for encoders that read some before they serve, such as those that compute in int8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from diptych.errors import AdapterCrashed, CollectionNotFound
from diptych.metadata.models import Reading
from diptych.metadata.store import read_metadata
from diptych.protocols import Sampling
from diptych.runtime.panics import contained
from diptych.slots.encode import Input
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

SAMPLE = 64  # texts of a collection that are encoded again where a few must do: to verify, to estimate a time
Texts: TypeAlias = Callable[[int, Reading], list[str]]
T = TypeVar("T")


class CollectionTexts:
    """Called with a number and a reading: returns the texts of that many points, the first in id order.

    `coming` are documents on their way in, which are taken while the collection holds none.
    """

    def __init__(self, client: QdrantBase, name: str) -> None:
        self._client, self._name = client, name
        self.coming: Sequence[Document] = ()

    def __call__(self, size: int, reading: Reading) -> list[str]:
        """The texts; none while the collection is empty."""
        return texts_of(self.documents(size), reading)

    def documents(self, size: int) -> Sequence[Document]:
        """The documents that these texts come from."""
        try:
            metadata = read_metadata(self._client, self._name)
        except CollectionNotFound:
            metadata = None
        if metadata is None:
            return self.coming[:size]
        records, _ = self._client.scroll(self._name, limit=size, with_payload=True, with_vectors=False)
        return [metadata.layout.read(record.id, record.payload) for record in records] or self.coming[:size]


def texts_of(documents: Iterable[Document], reading: Reading) -> list[str]:
    """The texts that an encoder of texts reads of documents; empty ones are left out."""
    return [text for document in documents if (text := reading.of(document.title, document.text))]


def inputs_of_documents(documents: Iterable[Document], reading: Reading) -> list[Input]:
    """What an encoder reads of documents, without those that have nothing of the kind."""
    return [found for document in documents if (found := reading.input_of(document)) is not None]


def sample_size(encoder: Any) -> int:
    """How many texts an encoder wants to read."""
    return encoder.sample if isinstance(encoder, Sampling) else 0


def provide_texts(encoder: Any, texts: Texts | None, reading: Reading) -> None:
    """Give an encoder the texts that it wants, if there are any yet."""
    size = sample_size(encoder)
    if size and texts is not None and (sample := texts(size, reading)):
        with contained(AdapterCrashed, "the encoder crashed", where=f"look_at of {type(encoder).__name__}"):
            encoder.look_at(sample)


def take_sample(encoders: Iterable[Any], items: Iterable[T]) -> tuple[list[T], Iterator[T]]:
    """As many of the first items as encoders want, and an iterator over all items."""
    size = max(map(sample_size, encoders), default=0)
    iterator = iter(items)
    first = list(islice(iterator, size))
    return first, chain(first, iterator)
