"""Dense and sparse encoders and rerankers behind HTTP."""

from __future__ import annotations

import base64
import binascii
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from diptych.errors import ContractError, RemoteError
from diptych.protocols import Fingerprint, Pair, Similarity
from diptych.types import Floats, SparseVector
from diptych_adapters.model_options import LEAST_SHARE, question, scores_of
from diptych_adapters.remote.endpoint import (
    Endpoint,
    as_text,
    batches,
    document_facts,
    in_order,
    items,
    matrix,
    space,
    tei_fingerprint,
    text_facts,
    truncation,
)
from diptych_adapters.remote.http_exchange import checked_url
from diptych_adapters.remote.options import (
    ApiRerankerOptions,
    CohereOptions,
    OpenAIOptions,
    RemoteOptions,
    TeiOptions,
    TeiRerankerOptions,
    TeiSparseOptions,
    YesNoApiRerankerOptions,
)

_CHAT_PATH = "/chat/completions"
_NEGLIGIBLE = -100.0  # log-probability; endpoints write -9999 and the like for "very small" or "not computed"
_ROUNDING = 1e-6  # probability; what is left beside the listed tokens is not known more precisely
_DO = "use a model that answers with one word; turn thinking off with `fields`, or change `instruction`"

_DECODE = "/decode"


class _Remote:
    """What all of them share: options and endpoint."""

    name: ClassVar[str]
    options_model: ClassVar[type[RemoteOptions]]
    options: Any  # an object of `options_model`

    def __init__(self, **options: Any) -> None:
        self.options = self.options_model(**options)
        self.endpoint = Endpoint(self.options, name=self.name)


class _RemoteEncoder(_Remote, ABC):
    """The base of encoders; a subclass builds the request and reads the answer."""

    path: ClassVar[str]

    @abstractmethod
    def _body(self, texts: list[str]) -> dict[str, Any]: ...

    def _answers(self, inputs: Sequence[str], side: Literal["query", "document"]) -> list[tuple[Any, int]]:
        """The endpoint's answers, each with the number of texts that it is for."""
        options = self.options
        prompt, fields = getattr(options, f"{side}_prompt"), getattr(options, f"{side}_fields")
        text_batches = list(batches(inputs, options.batch_size, prompt=prompt, longest=options.max_characters))
        bodies = [{**self._body(texts), **fields} for texts in text_batches]
        deadline = options.query_deadline if side == "query" else None
        answers = self.endpoint.post_each(self.path, bodies, deadline=deadline)
        return list(zip(answers, map(len, text_batches), strict=True))


class _RemoteDense(_RemoteEncoder):
    """The base of the dense endpoints."""

    @property
    def similarity(self) -> Similarity:
        """As declared in the options."""
        similarity: Similarity = self.options.similarity
        return similarity

    @functools.cached_property
    def dimension(self) -> int:
        """As declared, else measured by one request, of a document: some endpoints refuse texts of neither side."""
        options = self.options
        declared = getattr(options, "dimensions", None) or options.dimension
        return declared or int(self._vectors(["dimension"], "document", None).shape[1])

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors of queries, float32 `[n, dimension]`."""
        return self._vectors(inputs, "query", self.dimension)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors of documents, float32 `[n, dimension]`."""
        return self._vectors(inputs, "document", self.dimension)

    @abstractmethod
    def _rows(self, answer: Any, count: int) -> list[Any]: ...

    def _vectors(self, inputs: Sequence[str], side: Literal["query", "document"], dimension: int | None) -> Floats:
        parts = [
            matrix(self.endpoint, self.path, self._rows(answer, count), count, dimension)
            for answer, count in self._answers(inputs, side)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, dimension or 0), np.float32)


class _HostedModel(_RemoteDense):
    """A model of a vendor's API, known only by its name."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of name and request options. Only canaries prove that the name still means this model."""
        model = (self.name, self.options.model, self.options.dimensions, *self._model_facts())
        documents = space(*model, document_facts(self.options))
        return Fingerprint(space(*model, text_facts(self.options)), documents=documents)

    def _model_facts(self) -> tuple[str, ...]:
        """Options of this API alone that decide the vectors."""
        return ()


class OpenAIEncoder(_HostedModel):
    """A model behind an OpenAI-compatible `/v1/embeddings`; see `OpenAIOptions`."""

    path, name, options_model = "/embeddings", "openai", OpenAIOptions

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
    """A model behind Cohere's `/v2/embed`; see `CohereOptions`."""

    path, name, options_model = "/embed", "cohere", CohereOptions

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
    """A model behind text-embeddings-inference's `/embed`; see `TeiOptions`."""

    path, name, options_model = "/embed", "tei", TeiOptions

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """Made from the model that `/info` names, or else the server's address, and all options that are sent."""
        return tei_fingerprint(self.endpoint, "tei", self.options, normalize=self.options.normalize)

    def _body(self, texts: list[str]) -> dict[str, Any]:
        return {"inputs": texts, "normalize": self.options.normalize, **truncation(self.options)}

    def _rows(self, answer: Any, count: int) -> list[Any]:
        return items(self.endpoint, self.path, answer)


class TeiSparseEncoder(_RemoteEncoder):
    """A SPLADE model behind text-embeddings-inference's `/embed_sparse`; see `TeiSparseOptions` for the options."""

    path, name, options_model = "/embed_sparse", "tei-sparse", TeiSparseOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dimension, self.uses_idf = self.options.dimension, self.options.uses_idf
        self._words: dict[int, str] = {}

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """Made from the model that `/info` names, or else the server's address, and all options that are sent."""
        return tei_fingerprint(self.endpoint, "tei-sparse", self.options)

    def encode_query(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of queries."""
        return self._encode(inputs, "query")

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of documents."""
        return self._encode(inputs, "document")

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The terms as words of the server's tokenizer, heaviest first; `#id` when the server has no `/decode`."""
        order = np.argsort(-vector.values, kind="stable")[:top_k]
        ids = [int(vector.indices[position]) for position in order]
        self._fetch_words([term for term in ids if term not in self._words])
        return [(self._words[term], float(vector.values[position])) for term, position in zip(ids, order, strict=True)]

    def _body(self, texts: list[str]) -> dict[str, Any]:
        return {"inputs": texts, **truncation(self.options)}

    def _encode(self, inputs: Sequence[str], side: Literal["query", "document"]) -> list[SparseVector]:
        vectors: list[SparseVector] = []
        for answer, count in self._answers(inputs, side):
            rows = items(self.endpoint, self.path, answer)
            if len(rows) != count:
                where, expected = f"{self.endpoint.url}{self.path}", f"{count}, one per input"
                raise ContractError("wrong number of vectors", where=where, got=len(rows), expected=expected)
            vectors += map(self._vector, rows)
        return vectors

    def _vector(self, row: Any) -> SparseVector:
        try:
            weights = {item["index"]: item["value"] for item in row}
            if not all(type(term) is int and type(weight) in (int, float) for term, weight in weights.items()):
                raise TypeError
            vector = SparseVector.from_mapping(weights)
        except (TypeError, KeyError, ValueError, OverflowError):
            expected = "a list of {index, value}"
            raise self.endpoint.error(
                "a sparse vector is malformed", self.path, got=as_text(row), expected=expected
            ) from None
        if len(weights) != len(row):
            raise ContractError("a sparse vector names a term twice", where=f"{self.endpoint.url}{self.path}")
        return vector

    def _fetch_words(self, ids: list[int]) -> None:
        if not ids:
            return
        try:
            words = items(self.endpoint, _DECODE, self.endpoint.post(_DECODE, {"ids": [[term] for term in ids]}))
        except RemoteError as error:
            if error.context.get("status") not in (404, 405):
                raise
            words = []
        names = words if len(words) == len(ids) else [f"#{term}" for term in ids]
        self._words.update(zip(ids, map(str, names), strict=True))


class _RemoteReranker(_Remote, ABC):
    """The base of remote rerankers: pairs are sent query by query; subclasses build requests and read scores."""

    max_length: int | None = None  # the server's business
    independent = True
    lists: ClassVar[tuple[str, ...]]
    score: ClassVar[str]

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better."""
        positions: dict[str, list[int]] = {}
        for position, (query, _) in enumerate(pairs):
            positions.setdefault(query, []).append(position)
        size, longest = self.options.batch_size, self.options.max_characters
        groups = [(query, rows[i : i + size]) for query, rows in positions.items() for i in range(0, len(rows), size)]
        texts = [next(batches([pairs[row][1] for row in rows], len(rows), longest=longest)) for _, rows in groups]
        bodies = [self._body(query, documents) for (query, _), documents in zip(groups, texts, strict=True)]
        scores = np.zeros(len(pairs), np.float32)
        answers = self.endpoint.post_each(self._path, bodies, deadline=self.options.query_deadline)
        for (_, rows), answer in zip(groups, answers, strict=True):
            scores[rows] = self._scores(answer, len(rows))
        return scores

    @property
    @abstractmethod
    def _path(self) -> str: ...

    @abstractmethod
    def _body(self, query: str, documents: list[str]) -> dict[str, Any]: ...

    def _scores(self, answer: Any, count: int) -> Floats:
        entries = items(self.endpoint, self._path, answer, *self.lists)
        scores = in_order(self.endpoint, self._path, entries, self.score, count)
        values = matrix(self.endpoint, self._path, scores, count, 1)[:, 0]
        if not np.isfinite(values).all():
            where = f"{self.endpoint.url}{self._path}"
            raise ContractError("a score is NaN or infinite", where=where, got=str(values[~np.isfinite(values)][0]))
        return values


class TeiReranker(_RemoteReranker):
    """A cross-encoder behind text-embeddings-inference's `/rerank`; see `TeiRerankerOptions`."""

    name, options_model = "tei-reranker", TeiRerankerOptions
    lists, score, _path = (), "score", "/rerank"

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """Made from the model that `/info` names, or else the server's address, and all options that are sent."""
        return tei_fingerprint(self.endpoint, "tei-reranker", self.options, raw_scores=self.options.raw_scores)

    def _body(self, query: str, documents: list[str]) -> dict[str, Any]:
        raw = {"raw_scores": self.options.raw_scores}
        return {"query": query, "texts": documents, **raw, **truncation(self.options)}


class ApiReranker(_RemoteReranker):
    """A reranker behind an endpoint in the manner of Cohere, Jina, Voyage or vLLM; see `ApiRerankerOptions`."""

    name, options_model = "rerank-api", ApiRerankerOptions
    lists, score = ("results", "data"), "relevance_score"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        checked_url(self.endpoint.url + self._path, where="adapter 'rerank-api', option 'path'")

    @property
    def fingerprint(self) -> Fingerprint:
        """Made from the model name and all that is sent. Only canaries prove that the name means this model."""
        return Fingerprint(space("rerank-api", self.options.model, self.options.fields, text_facts(self.options)))

    @property
    def _path(self) -> str:
        path: str = self.options.path
        return path

    def _body(self, query: str, documents: list[str]) -> dict[str, Any]:
        fields = {"model": self.options.model, "query": query, "documents": documents}
        return {**fields, self.options.count_field: len(documents), **self.options.fields}


class YesNoApiReranker(_Remote):
    """Scores a pair by a chat model's probability of "yes" against "no" as the first token of its answer.

    Each pair takes one request, and the endpoint must return `logprobs`. See `YesNoApiRerankerOptions` for the options.
    """

    name, options_model = "yes-no-api", YesNoApiRerankerOptions
    max_length: int | None = None  # the server cuts
    independent = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._words = [word.casefold() for word in self.options.answers]

    @property
    def fingerprint(self) -> Fingerprint:
        """Covers the model's name and all that is sent. Only canaries notice that the name means another model."""
        facts = {"model", "instruction", "answers", "raw_scores", "top_logprobs", "max_characters", "fields"}
        return Fingerprint(space("yes-no-api", self.options.model_dump(include=facts)))

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better: 0 to 1, or with `raw_scores` log-odds.

        Raises:
            RemoteError: no answer, one without log-probabilities, or one in which the two words are improbable.
        """
        bodies = [self._body(query, document) for query, document in pairs]
        answers = self.endpoint.post_each(_CHAT_PATH, bodies, deadline=self.options.query_deadline)
        return scores_of(map(self._log_odds, answers), raw=self.options.raw_scores)

    def _body(self, query: str, document: str) -> dict[str, Any]:
        options = self.options
        content = question(options.instruction, query, document[: options.max_characters])
        body = {
            "model": options.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": options.top_logprobs,
            **options.fields,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _log_odds(self, answer: Any) -> float:
        tokens = self._first_tokens(answer)
        listed = [
            [logprob for token, logprob in tokens.items() if token.strip().casefold() == word] for word in self._words
        ]
        probabilities = [sum(math.exp(max(logprob, _NEGLIGIBLE)) for logprob in own) for own in listed]
        if sum(probabilities) < LEAST_SHARE:
            got = ", ".join(map(repr, tokens))
            expected = f"{' or '.join(map(repr, self._words))} with a probability of at least {LEAST_SHARE}"
            raise self.endpoint.error(
                "the model does not answer as the prompt asks", _CHAT_PATH, got=got, expected=expected, do=_DO
            )
        yes, no = (probability or _most_unlisted(tokens.values()) for probability in probabilities)
        return math.log(yes) - math.log(no)

    def _first_tokens(self, answer: Any) -> dict[str, float]:
        """The most probable first tokens of the answer with their log-probabilities."""
        try:
            first = answer["choices"][0]["logprobs"]["content"][0]
            listed = [*first.get("top_logprobs", ()), first]
            tokens = {str(own["token"]): float(own["logprob"]) for own in listed}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            tokens = {}
        if not tokens or not all(logprob <= 1e-3 for logprob in tokens.values()):
            raise self.endpoint.error(
                "the endpoint's answer has no log-probabilities",
                _CHAT_PATH,
                got=as_text(answer),
                expected="choices[0].logprobs.content[0] with `top_logprobs`",
                do="use an endpoint that gives them for chat completions, such as vLLM, llama.cpp or OpenAI",
            )
        return tokens


def _most_unlisted(logprobs: Iterable[float]) -> float:
    """The highest probability of a token that is not listed: at most the least listed one, and what all leave over."""
    computed = [math.exp(logprob) for logprob in logprobs if logprob > _NEGLIGIBLE]
    return min(*computed, max(1 - sum(computed), _ROUNDING))
