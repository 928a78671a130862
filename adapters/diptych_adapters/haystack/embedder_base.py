"""The base of all embedders: the encoder, and serialisation to YAML."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Literal, Self

from haystack import Document, default_from_dict, default_to_dict
from haystack.utils import Secret

from diptych.encoders import NamedEncoder
from diptych_adapters.haystack.documents import checked, text_of
from diptych_adapters.haystack.encoder_choice import Choice, unserializable


class Embedding:
    """A component that has an encoder.

    Args:
        encoder: a slot of `config` or an adapter, by name; or an encoder, such as `collection.encoders["dense"]`; the
            adapter of sentence-transformers unless given.
        model: the adapter's option of this name, which most have.
        config: path of a config file, or a mapping with its content.
        options: further ones of an adapter that is no slot: `{"average_length": 40}`.
        api_key: of a remote adapter: a secret from the environment.
    """

    kind: ClassVar[Literal["dense", "sparse"]]
    default_encoder: ClassVar[str]

    def __init__(
        self,
        encoder: str | NamedEncoder | None = None,
        *,
        model: str | None = None,
        config: str | dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        api_key: Secret | None = None,
    ) -> None:
        self._source = encoder or self.default_encoder
        is_name = isinstance(self._source, str)
        self._choice = Choice(str(self._source), model, config, options, api_key) if is_name else None

    @property
    def encoder(self) -> NamedEncoder:
        """The encoder.

        Raises:
            AdapterOptionsError: it is of another kind.
            ConfigError, UnknownAdapter: see diptych.errors.
        """
        encoder = self._source if isinstance(self._source, NamedEncoder) else self._choice_of().encoder()
        return encoder.required(self.kind)

    def warm_up(self) -> None:
        """Load the encoder."""
        _ = self.encoder.dimension

    async def warm_up_async(self) -> None:
        """`warm_up` in a thread, without blocking the event loop."""
        await asyncio.to_thread(self.warm_up)

    def to_dict(self) -> dict[str, Any]:
        """The component as serialisable names.

        Raises:
            NotSerializable: it was made of an encoder, not of a name.
        """
        return default_to_dict(self, **self._init_parameters())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` wrote."""
        return default_from_dict(cls, data)

    def _init_parameters(self) -> dict[str, Any]:
        return {"encoder": self._source, **self._choice_of().init_parameters()}

    def _choice_of(self) -> Choice:
        if self._choice is None:
            raise unserializable(self, self._source)
        return self._choice


class DocumentEmbedding(Embedding):
    """A component that encodes documents.

    Args:
        encoder, model, config, options, api_key: as in `Embedding`.
        meta_fields_to_embed: keys of `meta` whose values stand before the content.
        embedding_separator: stands between them.
    """

    def __init__(
        self,
        encoder: str | NamedEncoder | None = None,
        *,
        model: str | None = None,
        config: str | dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        api_key: Secret | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        super().__init__(encoder, model=model, config=config, options=options, api_key=api_key)
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


def checked_query(text: object) -> str:
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
