"""Calls encoders, checks their results against the contract, and keeps the vectors of the last queries.

`CollectionTexts` gives them texts of a collection where they read some before they serve, as those in int8 do.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from qdrant_client import models

from diptych.errors import AdapterCrashed, CollectionError, CollectionNotFound, ContractError, brief
from diptych.media import Content, Media, MediaStore, Sound
from diptych.metadata.models import Reading
from diptych.metadata.store import read_metadata
from diptych.protocols import Kind, Sampling
from diptych.runtime.panics import contained
from diptych.runtime.untrusted import stream_safe
from diptych.types import Document, Floats, SparseVector

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

Side: TypeAlias = Literal["query", "document"]
Vector: TypeAlias = Floats | SparseVector  # dense [dimension], multi-vector [tokens, dimension], or sparse
Input: TypeAlias = str | Media
Given = TypeVar("Given", bound=Input)  # what one encoder is called with
T = TypeVar("T")
Texts: TypeAlias = Callable[[int, Reading], list[str]]
SAMPLE = 64  # texts of a collection that are encoded again where a few must do: to verify, to estimate a time
_AT_ONCE, _BYTES_AT_ONCE = 64, 256 * 2**20  # media decoded for one call of an encoder


def decoded(inputs: Sequence[Input], media: MediaStore | None, *, where: str) -> Iterator[list[str | Content]]:
    """The inputs as encoders get them, media decoded, in batches of bounded size.

    Raises:
        MediaError: one of them cannot be read or decoded, or has changed since it was indexed.
    """
    if media is None:
        raise CollectionError("this slot was opened without access to media", where=where)
    batch: list[str | Content] = []
    size = 0
    for item in inputs:
        content = media.content(item) if isinstance(item, Media) else item
        batch.append(content)
        values = content.samples if isinstance(content, Sound) else content
        size += len(values) if isinstance(values, str) else values.nbytes
        if len(batch) == _AT_ONCE or size > _BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def encode(encoder: Any, kind: Kind, side: Side, inputs: Sequence[str | Content], *, where: str) -> list[Vector]:
    """One vector per input, in order; rows may still hold NaN (see `is_finite`).

    Raises:
        ContractError: wrong count, shape, dimension or type.
        AdapterCrashed: its native code panicked.
    """
    where = f"{where}, encode_{side} of {type(encoder).__name__}"
    with contained(AdapterCrashed, "the encoder crashed", where=where):
        raw = getattr(encoder, f"encode_{side}")([stream_safe(i) if isinstance(i, str) else i for i in inputs])
    if len(raw) != len(inputs):
        raise ContractError(
            "wrong number of vectors", where=where, got=len(raw), expected=f"{len(inputs)}, one per input"
        )
    if kind == "dense":
        _require_array(raw, 2, where)
        if raw.shape[1] != encoder.dimension:
            got, expected = f"vectors of {raw.shape[1]}", f"{encoder.dimension}, as declared"
            raise ContractError("wrong dimension", where=where, got=got, expected=expected)
        return list(raw)
    check = _sparse if kind == "sparse" else _multivector
    return [check(vector, encoder.dimension, where) for vector in raw]


def client_form(vector: Any) -> Any:
    """The vector as Qdrant's client takes it; a text index's query has that form already.

    Built without validation: checking each number costs more than a search.
    """
    if isinstance(vector, SparseVector):
        return models.SparseVector.model_construct(indices=vector.indices.tolist(), values=vector.values.tolist())
    return vector.tolist() if isinstance(vector, np.ndarray) else vector


def is_finite(vector: Vector) -> bool:
    """Whether all numbers of the vector are finite."""
    values = vector.values if isinstance(vector, SparseVector) else vector
    return bool(np.isfinite(values).all())


def all_finite(vectors: Sequence[Vector]) -> bool:
    """Whether all numbers of all vectors are finite. Short vectors are checked together, which is faster."""
    rows = [vector.values if isinstance(vector, SparseVector) else vector for vector in vectors]
    if not rows or rows[0].ndim == 2:
        return all(map(is_finite, vectors))
    return bool(np.isfinite(np.concatenate(rows)).all())


def require_finite(vectors: Sequence[Vector], inputs: Sequence[Any], *, where: str) -> None:
    """Raise ContractError naming the first input whose vector holds NaN or infinity."""
    for vector, given in zip(vectors, inputs, strict=True):
        if not is_finite(vector):
            raise ContractError("the encoder returned NaN or infinity", where=where, got=f"for {brief(given)}")


def _multivector(raw: Any, dimension: int, where: str) -> Floats:
    _require_array(raw, 2, where)
    if raw.shape[1] != dimension or not len(raw):
        raise ContractError(
            "wrong shape of a multi-vector", where=where, got=str(raw.shape), expected=f"[tokens >= 1, {dimension}]"
        )
    return raw  # type: ignore[no-any-return]


def _sparse(raw: Any, dimension: int, where: str) -> SparseVector:
    if not isinstance(raw, SparseVector):
        raise ContractError("not a sparse vector", where=where, got=type(raw).__name__, expected="diptych.SparseVector")
    indices = raw.indices
    if len(indices) > 1 and not (indices[1:] > indices[:-1]).all():
        raise ContractError("sparse indices are not strictly ascending", where=where, got=str(indices[:8]))
    if len(indices) and int(indices[-1]) >= dimension:
        raise ContractError(
            "a sparse index is out of range", where=where, got=int(indices[-1]), expected=f"< {dimension}"
        )
    return raw


def _require_array(raw: Any, ndim: int, where: str) -> None:
    if not isinstance(raw, np.ndarray) or raw.dtype != np.float32 or raw.ndim != ndim:
        got = f"{raw.dtype} {list(raw.shape)}" if isinstance(raw, np.ndarray) else type(raw).__name__
        raise ContractError("not a float32 array", where=where, got=got, expected=f"numpy float32 with {ndim} axes")


class QueryCache:
    """The most recently used texts and their vectors. Safe for threads; the vectors are read-only.

    They belong to one encoder and one generation. A call with another encoder or generation empties the cache.
    """

    def __init__(self) -> None:
        self._vectors: OrderedDict[Input, Vector] = OrderedDict()
        self._encoder: object = None
        self._generation: object = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def encode(
        self,
        texts: Sequence[Given],
        encode: Callable[[Sequence[Given]], list[Vector]],
        *,
        size: int,
        encoder: object,
        generation: object,
    ) -> list[Vector]:
        """One vector per text, in order; `encode` is called once for each text that is not cached.

        Args:
            texts: of queries.
            encode: makes one vector per text.
            size: how many vectors are kept.
            encoder, generation: whose vectors they are; compared by identity.
        """
        with self._lock:
            if self._encoder is not encoder or self._generation is not generation:
                self._vectors.clear()
                self._encoder, self._generation = encoder, generation
            cached: dict[Input, Vector] = {}
            for text in texts:
                if (vector := self._vectors.get(text)) is not None:
                    cached[text] = vector
                    self._vectors.move_to_end(text)
        if missing := [text for text in dict.fromkeys(texts) if text not in cached]:
            encoded: dict[Input, Vector] = dict(zip(missing, map(_read_only, encode(missing)), strict=True))
            cached |= encoded
            with self._lock:
                if self._encoder is encoder and self._generation is generation:  # else exchanged while this was made
                    self._vectors.update(encoded)
                while len(self._vectors) > size:
                    self._vectors.popitem(last=False)
        return [cached[text] for text in texts]


def _read_only(vector: Vector) -> Vector:
    """A read-only copy, which does not keep the whole batch in memory."""
    if isinstance(vector, SparseVector):
        vector = SparseVector(vector.indices.copy(), vector.values.copy())
        vector.indices.flags.writeable = vector.values.flags.writeable = False
        return vector
    vector = vector.copy()
    vector.flags.writeable = False
    return vector


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
