"""Embedders for any dense or sparse encoder, in the place of Haystack's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from haystack import Document, component, default_from_dict, default_to_dict
from haystack.dataclasses import SparseEmbedding
from haystack.utils import Secret

from diptych import SparseVector
from diptych.encoders import NamedEncoder
from diptych_adapters.frameworks import in_thread
from diptych_adapters.frameworks.sources import Source
from diptych_adapters.haystack.documents import checked, text_of
from diptych_adapters.haystack.encoder_choice import Choice


class Embedding:
    """A component that has an encoder.

    Args:
        encoder: a slot of `source` or an adapter, by name; the only slot of the kind unless given.
        options: of an adapter: `{"model": "all-MiniLM-L6-v2"}`.
        source: whose slots can be named: a config, its path, an open collection, or `Encoders`.
        api_key: of a remote adapter: a secret from the environment.
    """

    kind: ClassVar[Literal["dense", "sparse"]]

    def __init__(
        self,
        encoder: str | None = None,
        *,
        options: dict[str, Any] | None = None,
        source: Source = None,
        api_key: Secret | None = None,
    ) -> None:
        self._choice = Choice(encoder, options, source, api_key)

    @property
    def encoder(self) -> NamedEncoder:
        """The encoder.

        Raises:
            AdapterOptionsError: it is of another kind.
            ConfigError, UnknownAdapter: see diptych.errors.
        """
        return self._choice.encoder(self.kind)

    def warm_up(self) -> None:
        """Load the encoder."""
        _ = self.encoder.dimension

    warm_up_async = in_thread(warm_up)

    def to_dict(self) -> dict[str, Any]:
        """The component as serialisable names.

        Raises:
            NotSerializable: it was made of an open collection or of encoders.
        """
        return default_to_dict(self, **self._init_parameters())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` wrote."""
        return default_from_dict(cls, data)

    def _init_parameters(self) -> dict[str, Any]:
        return {"encoder": self._choice.name, **self._choice.init_parameters(self)}


class DocumentEmbedding(Embedding):
    """A component that encodes documents.

    Args:
        encoder, options, source, api_key: as in `Embedding`.
        meta_fields_to_embed: keys of `meta` whose values stand before the content.
        embedding_separator: stands between them.
    """

    def __init__(
        self,
        encoder: str | None = None,
        *,
        options: dict[str, Any] | None = None,
        source: Source = None,
        api_key: Secret | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        super().__init__(encoder, options=options, source=source, api_key=api_key)
        self.meta_fields_to_embed, self.embedding_separator = meta_fields_to_embed or [], embedding_separator

    def _texts(self, documents: object) -> list[str]:
        fields, separator = self.meta_fields_to_embed, self.embedding_separator
        return [text_of(document, fields, separator) for document in checked(documents)]

    def _init_parameters(self) -> dict[str, Any]:
        fields = {
            "meta_fields_to_embed": self.meta_fields_to_embed,
            "embedding_separator": self.embedding_separator,
        }
        return {**super()._init_parameters(), **fields}


@component
class DiptychTextEmbedder(Embedding):
    """Encodes a query with any dense slot or adapter: text in, `embedding` out.

    Raises when it runs:
        TypeError: the query is not text.
        ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
    """

    kind = "dense"

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The vector of a query."""
        (vector,) = self.encoder.encode_query([_checked_query(text)])
        return {"embedding": np.asarray(vector).tolist()}

    run_async = in_thread(run)


@component
class DiptychDocumentEmbedder(DocumentEmbedding):
    """Adds vectors of any dense slot or adapter to documents; the input documents are not changed.

    Raises when it runs:
        UnusableDocument: one is not a document, or has no text.
        ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
    """

    kind = "dense"

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents, each with its `embedding`."""
        vectors = self.encoder.encode_document(self._texts(documents))
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, embedding=np.asarray(vector).tolist()) for document, vector in pairs]}

    run_async = in_thread(run)


@component
class DiptychSparseTextEmbedder(Embedding):
    """A query's term weights, of any sparse slot or adapter: the text goes in, `sparse_embedding` comes out.

    Raises when it runs:
        TypeError: the query is not text.
        ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
    """

    kind = "sparse"

    @component.output_types(sparse_embedding=SparseEmbedding)
    def run(self, text: str) -> dict[str, Any]:
        """The term weights of a query."""
        (vector,) = self.encoder.encode_query([_checked_query(text)])
        return {"sparse_embedding": _sparse(vector)}

    run_async = in_thread(run)


@component
class DiptychSparseDocumentEmbedder(DocumentEmbedding):
    """Documents with their term weights, of any sparse slot or adapter; those that come in are left as they are.

    Raises when it runs:
        UnusableDocument: one is not a document, or has no text.
        ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
    """

    kind = "sparse"

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents, each with its `sparse_embedding`."""
        vectors = self.encoder.encode_document(self._texts(documents))
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, sparse_embedding=_sparse(vector)) for document, vector in pairs]}

    run_async = in_thread(run)


def _sparse(vector: object) -> SparseEmbedding:
    assert isinstance(vector, SparseVector), "sparse encoders make sparse vectors"
    return SparseEmbedding(indices=vector.indices.tolist(), values=vector.values.tolist())


def _checked_query(text: object) -> str:
    """The query; raises if it is not text.

    Raises:
        TypeError: it is not, as in Haystack's own embedders.
    """
    if not isinstance(text, str):
        kind = "a list of documents" if isinstance(text, list) and any(isinstance(d, Document) for d in text) else ""
        raise TypeError(
            f"a text embedder takes one text, not {kind or type(text).__name__}; for documents take a document embedder"
        )
    return text
