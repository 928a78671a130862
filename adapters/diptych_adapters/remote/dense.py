"""Dense encoders behind HTTP."""

from __future__ import annotations

import base64
import binascii
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.remote.endpoint import Endpoint
from diptych_adapters.remote.identity import document_facts, space, tei_fingerprint, text_facts, truncation
from diptych_adapters.remote.json_answers import batches, in_order, items, matrix
from diptych_adapters.remote.options import COHERE_URL, OPENAI, RemoteDenseOptions


class _RemoteDense(ABC):
    """The base of the dense endpoints; a subclass builds the request and finds the vectors in the answer."""

    path: ClassVar[str]
    options: RemoteDenseOptions
    endpoint: Endpoint

    @property
    def similarity(self) -> Similarity:
        """As declared in the options."""
        return self.options.similarity

    @functools.cached_property
    def dimension(self) -> int:
        """As declared, else measured by one request."""
        options = self.options  # as a document, since some endpoints refuse texts that are on neither side
        return self._declared or int(
            self._ask(["dimension"], options.document_prompt, options.document_fields, None).shape[1]
        )

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors of queries, float32 `[n, dimension]`."""
        options = self.options
        return self._ask(inputs, options.query_prompt, options.query_fields, self.dimension, options.query_deadline)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors of documents, float32 `[n, dimension]`."""
        return self._ask(inputs, self.options.document_prompt, self.options.document_fields, self.dimension)

    @property
    @abstractmethod
    def _declared(self) -> int | None: ...

    @abstractmethod
    def _body(self, texts: list[str]) -> dict[str, Any]: ...

    @abstractmethod
    def _rows(self, answer: Any, count: int) -> list[Any]: ...

    def _ask(
        self,
        inputs: Sequence[str],
        prompt: str,
        fields: Mapping[str, Any],
        dimension: int | None,
        deadline: float | None = None,
    ) -> Floats:
        text_batches = list(
            batches(inputs, self.options.batch_size, prompt=prompt, longest=self.options.max_characters)
        )
        bodies = [{**self._body(texts), **fields} for texts in text_batches]
        answers = self.endpoint.post_each(self.path, bodies, deadline=deadline)
        parts = [
            matrix(self.endpoint, self.path, self._rows(answer, len(texts)), len(texts), dimension)
            for texts, answer in zip(text_batches, answers, strict=True)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, dimension or 0), np.float32)


class _HostedModel(_RemoteDense):
    """A model of a vendor's API, known only by its name. `vendor` has the API's address and key."""

    name: ClassVar[str]
    vendor: ClassVar[tuple[str, str]]

    def __init__(self, **options: Any) -> None:
        self.options = RemoteDenseOptions(**options, api=self.name).with_key_of(*self.vendor)
        self.endpoint = Endpoint(self.options, name=self.name)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of name and request options. Only canaries prove that the name still means this model."""
        model = (self.name, self.options.model, self.options.dimensions, *self._model_facts())
        documents = space(*model, document_facts(self.options))
        return Fingerprint(space(*model, text_facts(self.options)), documents=documents)

    @property
    def _declared(self) -> int | None:
        return self.options.dimensions or self.options.dimension

    def _model_facts(self) -> tuple[str, ...]:
        """Options of this API alone that decide the vectors."""
        return ()


class OpenAIEncoder(_HostedModel):
    """A model behind an OpenAI-compatible `/v1/embeddings`; see `RemoteDenseOptions`."""

    path, name, vendor = "/embeddings", "openai", OPENAI

    def _body(self, texts: list[str]) -> dict[str, Any]:
        fields = {"dimensions": self.options.dimensions, "encoding_format": self.options.encoding_format}
        optional = {name: value for name, value in fields.items() if value is not None}
        return {"model": self.options.model, "input": texts, **optional}

    def _rows(self, answer: Any, count: int) -> list[Any]:
        entries = items(self.endpoint, self.path, answer, "data")
        return [self._floats(row) for row in in_order(self.endpoint, self.path, entries, "embedding", count)]

    def _floats(self, row: Any) -> Any:
        if not isinstance(row, str):
            return row
        try:
            return np.frombuffer(base64.b64decode(row, validate=True), "<f4")
        except (binascii.Error, ValueError):
            raise self.endpoint.error("a vector is not base64 of float32", self.path, got=row) from None


class CohereEncoder(_HostedModel):
    """A model behind Cohere's `/v2/embed`; see `RemoteDenseOptions`."""

    path, name, vendor = "/embed", "cohere", (COHERE_URL, "COHERE_API_KEY")

    def _model_facts(self) -> tuple[str, ...]:
        return (str(self.options.truncate),)

    def _body(self, texts: list[str]) -> dict[str, Any]:
        dimension = {"output_dimension": self.options.dimensions} if self.options.dimensions else {}
        fields = {"model": self.options.model, "texts": texts, "embedding_types": ["float"], **dimension}
        return {**fields, "truncate": self.options.truncate}

    def _rows(self, answer: Any, count: int) -> list[Any]:
        by_type = answer.get("embeddings") if isinstance(answer, Mapping) else answer
        return items(self.endpoint, self.path, by_type if isinstance(by_type, Mapping) else answer, "float")


class TeiEncoder(_RemoteDense):
    """A model behind text-embeddings-inference's `/embed`; see `RemoteDenseOptions`."""

    path = "/embed"

    def __init__(self, **options: Any) -> None:
        self.options = RemoteDenseOptions(**options, api="tei")
        self.endpoint = Endpoint(self.options, name="tei")

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """Made from the model that `/info` names, or else the server's address, and all options that are sent."""
        return tei_fingerprint(self.endpoint, "tei", self.options, normalize=self.options.normalize)

    @property
    def _declared(self) -> int | None:
        return self.options.dimension

    def _body(self, texts: list[str]) -> dict[str, Any]:
        return {"inputs": texts, "normalize": self.options.normalize, **truncation(self.options)}

    def _rows(self, answer: Any, count: int) -> list[Any]:
        return items(self.endpoint, self.path, answer)


def remote(*, api: str, **options: Any) -> _RemoteDense:
    """The adapter `remote` with one of its interfaces."""
    by_api: dict[str, type[_RemoteDense]] = {"openai": OpenAIEncoder, "cohere": CohereEncoder, "tei": TeiEncoder}
    return by_api[api](**options)
