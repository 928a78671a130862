"""Embedders for any dense or sparse encoder, in the place of Haystack's own."""

from __future__ import annotations

import json
import os
import re
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
from haystack import Document, component, default_from_dict, default_to_dict
from haystack.dataclasses import SparseEmbedding
from haystack.utils import Secret
from haystack.utils.auth import SecretType

from diptych import Reranker, SparseVector
from diptych.config import Config
from diptych.encoders import Encoders, NamedEncoder
from diptych.errors import ConfigError
from diptych_adapters.frameworks import Opened, Source, encoder_of, encoders_of, in_thread
from diptych_adapters.haystack.documents import NotSerializable, checked, text_of

T = TypeVar("T")


class Shared(Generic[T]):
    """Values by key, each created for its first user and closed after its last.

    Args:
        close: called with a value that has no users left.
    """

    def __init__(self, close: Callable[[T], None] = lambda value: None) -> None:
        self._close, self._lock = close, threading.RLock()
        self._values: dict[Hashable, tuple[T, weakref.WeakSet[object]]] = {}

    def acquire(self, key: Hashable, user: object, make: Callable[[], T]) -> T:
        """The value for this key, created if there is none."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make(), weakref.WeakSet()
            value, users = self._values[key]
            if user not in users:
                users.add(user)
                weakref.finalize(user, self._close_if_unused, key).atexit = False
            return value

    def release(self, key: Hashable, user: object) -> None:
        """Release the value for `user`."""
        with self._lock:
            if key in self._values:
                self._values[key][1].discard(user)
                self._close_if_unused(key)

    def _close_if_unused(self, key: Hashable) -> None:
        with self._lock:
            if key in self._values and not any(True for _ in self._values[key][1]):
                self._close(self._values.pop(key)[0])


_OPEN: Shared[Encoders] = Shared()


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


class Choice:
    """An encoder or reranker by name; components of a process with the same name and config share it.

    Args:
        name: a slot of `source`, a reranker, or an adapter; None for the only slot of a kind.
        options: of an adapter that is no slot.
        source: a config, its path, an open collection, or `Encoders`; None if the adapter is enough.
        api_key: of a remote adapter: an environment variable, whose name takes the place of its `api_key_env`.
    """

    def __init__(
        self, name: str | None, options: dict[str, Any] | None, source: Source, api_key: Secret | None
    ) -> None:
        self.name, self.options, self.source, self.api_key = name, options, source, api_key

    def init_parameters(self, component: object) -> dict[str, Any]:
        """The part of a component's `to_dict` that is its own, besides the name.

        Raises:
            NotSerializable: the source is an open object, or a config with a key in clear.
        """
        if isinstance(self.source, Opened | Encoders | Config):
            raise unserializable(component, self.source)
        api_key = self.api_key and self.api_key.to_dict()
        return {"options": self.options, "source": serializable(self.source), "api_key": api_key}

    def encoder(self, kind: Literal["dense", "sparse"]) -> NamedEncoder:
        """The encoder, of this kind.

        Raises:
            ConfigError, UnknownAdapter, AdapterOptionsError: see diptych.errors.
        """
        return encoder_of(self._encoders(), self.name, self._adapter_options(), kind)

    def reranker(self) -> Reranker:
        """The reranker, with the options that the config's pipeline gives it unless there are others.

        Raises:
            ConfigError, RegistryError: see diptych.errors.
        """
        return self._encoders().reranker(str(self.name), self._adapter_options() or None)

    def _encoders(self) -> Encoders:
        source = self.source
        if isinstance(source, Opened | Encoders | Config):
            return encoders_of(source)
        return _OPEN.acquire(source_key(source), self, lambda: Encoders.open(source))

    def _adapter_options(self) -> dict[str, Any]:
        key = {"api_key_env": variable_name(self.api_key)} if self.api_key else {}
        return {**(self.options or {}), **key}


def variable_name(secret: Secret) -> str:
    """The environment variable of the secret: the first one that is set, else the first.

    Raises:
        ConfigError: the secret is no variable.
    """
    if secret.type is not SecretType.ENV_VAR:
        raise ConfigError(
            "the key of a remote adapter is read from the environment",
            got="a secret that holds the token itself",
            expected='Secret.from_env_var("NAME")',
        )
    names: list[str] = secret.to_dict()["env_vars"]
    return next((name for name in names if name in os.environ), names[0])


def source_key(source: str | Path | Mapping[str, Any] | None) -> Hashable:
    """A key that is equal for sources with the same content."""
    if isinstance(source, Mapping):
        return json.dumps(source, sort_keys=True, default=str)
    return str(Path(source).absolute()) if source is not None and Path(source).exists() else source


def serializable(config: str | Path | Mapping[str, Any] | None) -> str | Mapping[str, Any] | None:
    """The config in a form that YAML can hold.

    Raises:
        NotSerializable: it contains the server's key in plain text.
    """
    key = config.get("api_key") if isinstance(config, Mapping) else None
    if key is not None and not re.fullmatch(r"\$\{\w+\}", str(key)):
        do = "name the variable that holds it: api_key: ${QDRANT_API_KEY}"
        raise NotSerializable("a config with a key in clear is not written as YAML", where="api_key", do=do)
    return str(config) if isinstance(config, Path) else config


def unserializable(component: object, value: object) -> NotSerializable:
    """The error for a component that was made from an object."""
    return NotSerializable(
        f"a {type(component).__name__} that holds an object cannot be written as YAML",
        got=type(value).__name__,
        do="make it of names: of a config file, a slot, an adapter; and filters in Haystack's words",
    )
