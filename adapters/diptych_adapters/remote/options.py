"""The options of the remote adapters, cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ByteSize, Field, ValidationInfo, field_validator, model_validator

from diptych_adapters.model_options import ANSWERS, INSTRUCTION, Answers, Options

COHERE_URL = "https://api.cohere.com/v2"
OPENAI_URL = "https://api.openai.com/v1"
OPENAI = (OPENAI_URL, "OPENAI_API_KEY")  # address and key, as `RemoteOptions.with_key_of` takes them


class RemoteOptions(Options):
    """Address, key, timeouts and retries of an endpoint."""

    base_url: str = Field(description="Address of the endpoint, such as `http://localhost:8080`, without a key.")
    api_key_env: str | None = Field(None, description="NAME of the environment variable that holds the key.")
    api_key_header: str = Field(
        "Authorization", description="Header with the key: `Authorization` sends `Bearer KEY`, others the bare key."
    )
    batch_size: int = Field(32, ge=1, description="Texts per request.")
    max_concurrency: int = Field(4, ge=1, le=64, description="Maximum requests at once.")
    timeout: float = Field(
        60.0, gt=0, le=86_400, description="Seconds for one attempt, from connecting to the last byte."
    )
    deadline: float = Field(
        300.0, gt=0, le=86_400, description="Seconds for one request with all its retries and waits."
    )
    query_deadline: float = Field(
        60.0, gt=0, le=86_400, description="`deadline` of queries and rerankers, for which a user waits."
    )
    retries: int = Field(5, ge=0, le=1000, description="Retries after 429, 5xx and broken connections.")
    backoff: float = Field(
        0.5, ge=0, le=86_400, description="Maximum seconds before the first retry; doubles with each retry."
    )
    max_retry_wait: float = Field(
        60.0, ge=0, le=86_400, description="Maximum seconds before a retry; a longer Retry-After ends the attempts."
    )
    max_answer_size: ByteSize | None = Field(
        None, ge=1, description="Maximum size of an answer; null is 128KB per text of a batch, at least 16MB."
    )
    max_characters: int | None = Field(None, ge=1, description="Cut texts to this many characters before sending.")

    @property
    def most_bytes(self) -> int:
        """The longest answer that is read, as sent and unpacked."""
        return self.max_answer_size or max(16_000_000, 128_000 * self.batch_size)

    def with_key_of(self, address: str, name: str) -> Self:
        """These options with the key of the vendor at `address`, if they lead there and name no variable."""
        if self.api_key_env is None and self.base_url.rstrip("/") == address:
            return self.model_copy(update={"api_key_env": name})
        return self


class _Sides(BaseModel):
    """Options that differ between queries and documents."""

    query_prompt: str = Field("", description="Prefix of each query.")
    document_prompt: str = Field("", description="Prefix of each document.")
    query_fields: dict[str, Any] = Field(
        default_factory=dict, description="Extra fields sent with queries, such as `{input_type: query}`."
    )
    document_fields: dict[str, Any] = Field(
        default_factory=dict, description="Extra fields sent with documents, such as `{input_type: document}`."
    )


class _ByApi(RemoteOptions):
    """Options of an adapter for several interfaces, of which each has defaults and options of its own."""

    by_api: ClassVar[Mapping[str, Mapping[str, Any]]]  # the own options of each interface with their defaults
    required: ClassVar[Mapping[str, str]]
    most: ClassVar[Mapping[str, int]] = {}  # inputs per request
    api: str

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        return {**cls.by_api.get(str(given.get("api")), {}), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _check_api(self) -> Self:
        own, required = self.by_api[self.api], self.required.get(self.api)
        shared = {*RemoteOptions.model_fields, *_Sides.model_fields}
        others = {name for options in self.by_api.values() for name in options} - {*own} - shared
        if foreign := sorted(name for name in others if getattr(self, name) is not None):
            raise ValueError(f"api: {self.api} has no option {foreign[0]!r}")
        if required and not getattr(self, required):
            raise ValueError(f"api: {self.api} needs the option {required!r}")
        if self.batch_size > self.most.get(self.api, self.batch_size):
            raise ValueError(f"api: {self.api} takes a batch_size of at most {self.most[self.api]}")
        return self


class RemoteDenseOptions(_ByApi, _Sides):
    """Options of `remote`."""

    by_api: ClassVar = {
        "openai": {
            "base_url": OPENAI_URL,
            "batch_size": 128,
            "model": None,
            "dimensions": None,
            "encoding_format": None,
        },
        "cohere": {
            "base_url": COHERE_URL,
            "batch_size": 96,
            "model": None,
            "dimensions": None,
            "truncate": "END",
            "query_fields": {"input_type": "search_query"},
            "document_fields": {"input_type": "search_document"},
        },
        "tei": {"truncate": True, "truncation_direction": "right", "normalize": True},
    }
    required: ClassVar = {"openai": "model", "cohere": "model", "tei": "base_url"}
    most: ClassVar = {"openai": 2048, "cohere": 96}

    api: Literal["openai", "cohere", "tei"] = Field(
        description="Interface: any OpenAI-compatible `/embeddings`, Cohere's `/embed`, or text-embeddings-inference's "
        "`/embed`."
    )
    base_url: str = Field(
        "",
        description="Address of the endpoint without a key; for `openai` up to `/v1`, for `cohere` up to `/v2`, and by "
        "default the vendor's own.",
    )
    api_key_env: str | None = Field(
        None,
        description="NAME of the environment variable with the key; for the vendor's own address, null is "
        "OPENAI_API_KEY or COHERE_API_KEY.",
    )
    model: str | None = Field(
        None, min_length=1, description="Model name, as the endpoint knows it; text-embeddings-inference has one model."
    )
    batch_size: int = Field(
        32, ge=1, description="Texts per request; 128 for `openai`, 96, the maximum, for `cohere` unless given."
    )
    dimensions: int | None = Field(
        None, ge=1, description="For `openai` and `cohere`: ask the model for shorter vectors of this length."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None,
        description="For `openai`: transfer format of vectors; `base64` takes a third of the bytes; null is the "
        "server's default.",
    )
    truncate: bool | Literal["END", "START", "NONE"] | None = Field(
        None,
        description="For `cohere`: end to cut from long texts, END unless given. For `tei`: true lets the server cut, "
        "false makes it reject them.",
    )
    truncation_direction: Literal["right", "left"] | None = Field(
        None, description="For `tei`: side to cut off, right unless given."
    )
    dimension: int | None = Field(None, ge=1, description="Length of the vectors; null measures it by one request.")
    similarity: Literal["cosine", "dot", "euclidean"] = Field("cosine", description="Similarity of its vectors.")
    normalize: bool | None = Field(None, description="For `tei`: scale vectors to unit length, true unless given.")

    @field_validator("truncate")
    @classmethod
    def _check_truncate(cls, value: Any, given: ValidationInfo) -> Any:
        if value is not None and isinstance(value, bool) != (given.data.get("api") == "tei"):
            raise ValueError("END, START or NONE go with api: cohere, true or false with api: tei")
        return value


class TeiSparseOptions(RemoteOptions, _Sides):
    """Options of the `tei-sparse` adapter."""

    dimension: int = Field(2**32, ge=1, le=2**32, description="Size of the model's vocabulary, if known.")
    uses_idf: bool = Field(False, description="Let Qdrant apply IDF, for models trained that way.")
    truncate: bool = Field(True, description="Let the server cut texts that are too long; otherwise it rejects them.")
    truncation_direction: Literal["right", "left"] = Field("right", description="Side to cut off.")


class RemoteRerankerOptions(_ByApi):
    """Options of `remote-reranker`."""

    by_api: ClassVar = {
        "cohere": {"batch_size": 100, "model": None, "path": "/rerank", "count_field": "top_n", "fields": {}},
        "tei": {"truncate": True, "truncation_direction": "right", "raw_scores": False},
    }
    required: ClassVar = {"cohere": "model"}

    api: Literal["cohere", "tei"] = Field(
        description="Interface: `/rerank` of Cohere, Jina, Voyage or vLLM, or of text-embeddings-inference."
    )
    model: str | None = Field(
        None, min_length=1, description="Model name, as the endpoint knows it; text-embeddings-inference has one model."
    )
    path: str | None = Field(
        None, pattern="^/", description="For `cohere`: path after base_url, `/rerank` unless given."
    )
    batch_size: int = Field(32, ge=1, description="Documents per request; 100 for `cohere`.")
    count_field: Literal["top_n", "top_k"] | None = Field(
        None,
        description="For `cohere`: name of the request field for the number of scores: `top_n`, or `top_k` at Voyage.",
    )
    fields: dict[str, Any] | None = Field(
        None, description="For `cohere`: extra request fields, such as `{return_documents: false}` for Jina."
    )
    truncate: bool | None = Field(
        None,
        description="For `tei`: let the server cut texts that are too long, true unless given; else it rejects them.",
    )
    truncation_direction: Literal["right", "left"] | None = Field(
        None, description="For `tei`: side to cut off, right unless given."
    )
    raw_scores: bool | None = Field(
        None, description="For `tei`: return the model's own scores instead of scores from 0 to 1."
    )


class YesNoApiOptions(RemoteOptions):
    """Options of the `yes-no-api` adapter."""

    base_url: str = Field(OPENAI_URL, description="Address of the endpoint up to and including `/v1`, without a key.")
    api_key_env: str | None = Field(
        None, description="NAME of the environment variable with the key; for OpenAI itself, null is OPENAI_API_KEY."
    )
    model: str = Field(min_length=1, description="Name of the chat model, as the endpoint knows it.")
    instruction: str = Field(INSTRUCTION, min_length=1, description="Task, put before query and document.")
    answers: Answers = Field(ANSWERS, description="Words for relevant and irrelevant.")
    raw_scores: bool = Field(False, description="Return log-odds of the words instead of scores from 0 to 1.")
    batch_size: int = Field(1, ge=1, le=1, description="Pairs per request: always one; see `max_concurrency`.")
    top_logprobs: int = Field(
        20, ge=2, le=1000, description="Tokens to request log-probabilities of; OpenAI allows up to 20."
    )
    max_characters: int | None = Field(6000, ge=1, description="Cut documents to this many characters before sending.")
    fields: dict[str, Any] = Field(
        default_factory=dict,
        description="Extra request fields, such as `{chat_template_kwargs: {enable_thinking: false}}`; null removes a "
        "field.",
    )
