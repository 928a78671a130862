"""`EncoderPipeline`: a pipeline behind an encoder, which says how much of a document it reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from diptych_adapters.engines.tokens import DocumentTokens
from diptych_adapters.models import ModelError
from diptych_adapters.pipelines.pipeline import NO_LIMIT, ModelPipeline

Task: TypeAlias = Literal["query", "document"]
V = TypeVar("V")


class EncoderPipeline(ModelPipeline, Generic[V]):
    """A `ModelPipeline` with both sides of an encoder, whose vectors are `V`, and `diptych.protocols.TokenLimit`."""

    _prompts: tuple[str, str]  # of queries and documents

    def encode_query(self, inputs: Sequence[str]) -> V:
        """The queries' vectors, as the class says."""
        return self._encode(inputs, self._prompts[0], "query")

    def encode_document(self, inputs: Sequence[str]) -> V:
        """The documents' vectors, as the class says."""
        return self._encode(inputs, self._prompts[1], "document")

    @abstractmethod
    def _encode(self, inputs: Sequence[str], prompt: str, task: Task) -> V: ...

    def _library_encode(self, task: Task) -> Any:
        """The library's method."""
        return self.model.encode_query if task == "query" else self.model.encode_document

    @property
    def max_tokens(self) -> int | None:
        """Tokens of a document that the model reads, without special tokens and prompt; None for all."""
        tokens, max_length = self._document_reading
        return None if tokens is None else tokens.room(max_length)

    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where the tokens of each document are, nothing cut: int32 `[tokens_i, 2]`, begin and end in characters.

        Raises:
            ModelError: the model's tokenizer cannot tell.
        """
        tokens, _ = self._document_reading
        if tokens is None:
            raise ModelError(
                f"the tokenizer of model {self.name!r} does not report token positions",
                where=self._folder.path,
                expected="a fast tokenizer, saved as tokenizer.json",
                do="save the model with a fast tokenizer",
            )
        return tokens.spans(inputs)

    @cached_property
    def _document_reading(self) -> tuple[DocumentTokens | None, int | None]:
        """The tokens of documents, None without a fast tokenizer, and the most that is read, special ones included."""
        if self._model is None and self.runner is not None:
            tokens = self.runner.tokens
            return DocumentTokens(tokens.data.text, self._prompts[1]), tokens.max_length
        # The module of a sentence-transformers pipeline that reads documents: its first, or the first of their route.
        first = next(iter(self.model.children()))
        routes = getattr(first, "sub_modules", {})
        module = next(iter(routes["document"])) if "document" in routes else first
        length = getattr(module, "document_length", None) or getattr(module, "max_seq_length", None)
        tokenizer: Any = getattr(module, "tokenizer", None)
        fast: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)  # a static embedding's is one itself
        if not hasattr(fast, "to_str"):
            return None, None
        return DocumentTokens(fast.to_str(), self._prompts[1]), None if length is None or length > NO_LIMIT else length
