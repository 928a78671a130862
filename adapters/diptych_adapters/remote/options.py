"""The options of the remote adapters, cheap to import."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ByteSize, Field

from diptych_adapters.model_options import ANSWERS, INSTRUCTION, Answers, Options

COHERE_URL = "https://api.cohere.com/v2"
OPENAI_URL = "https://api.openai.com/v1"
VENDOR_KEYS = {OPENAI_URL: "OPENAI_API_KEY", COHERE_URL: "COHERE_API_KEY"}


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

    @property
    def key_variable(self) -> str | None:
        """The environment variable that holds the key: the configured one, else that of the vendor at this address."""
        vendors = VENDOR_KEYS.get(self.base_url.rstrip("/"))
        return vendors if self.api_key_env is None else self.api_key_env


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


class _DenseOptions(RemoteOptions, _Sides):
    """What all dense encoders take."""

    dimension: int | None = Field(None, ge=1, description="Length of the vectors; null measures it by one request.")
    similarity: Literal["cosine", "dot", "euclidean"] = Field("cosine", description="Similarity of its vectors.")


class _HostedOptions(_DenseOptions):
    """A model of a vendor's API."""

    model: str = Field(min_length=1, description="Model name, as the endpoint knows it.")
    dimensions: int | None = Field(None, ge=1, description="Ask the model for shorter vectors of this length.")


class _OpenAIAddress(BaseModel):
    """OpenAI's address and key, unless others are given."""

    base_url: str = Field(OPENAI_URL, description="Address of the endpoint up to and including `/v1`, without a key.")
    api_key_env: str | None = Field(
        None, description="NAME of the environment variable with the key; for OpenAI itself, null is OPENAI_API_KEY."
    )


class OpenAIOptions(_OpenAIAddress, _HostedOptions):
    """Options of `remote` with `api: openai`."""

    batch_size: int = Field(128, ge=1, le=2048, description="Texts per request.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None,
        description="Transfer format of vectors; `base64` takes a third of the bytes; null is the server's default.",
    )


class CohereOptions(_HostedOptions):
    """Options of `remote` with `api: cohere`."""

    base_url: str = Field(COHERE_URL, description="Address of the endpoint up to and including `/v2`, without a key.")
    api_key_env: str | None = Field(
        None, description="NAME of the environment variable with the key; for Cohere itself, null is COHERE_API_KEY."
    )
    batch_size: int = Field(96, ge=1, le=96, description="Texts per request.")
    truncate: Literal["END", "START", "NONE"] = Field("END", description="End to cut from long texts.")
    query_fields: dict[str, Any] = Field({"input_type": "search_query"}, description="Extra fields sent with queries.")
    document_fields: dict[str, Any] = Field(
        {"input_type": "search_document"}, description="Extra fields sent with documents."
    )


class TeiServerOptions(RemoteOptions):
    """How text-embeddings-inference cuts texts."""

    truncate: bool = Field(True, description="Let the server cut texts that are too long; otherwise it rejects them.")
    truncation_direction: Literal["right", "left"] = Field("right", description="Side to cut off.")


class TeiOptions(TeiServerOptions, _DenseOptions):
    """Options of `remote` with `api: tei`."""

    normalize: bool = Field(True, description="Scale vectors to unit length.")


class TeiSparseOptions(TeiServerOptions, _Sides):
    """Options of the `tei-sparse` adapter."""

    dimension: int = Field(2**32, ge=1, le=2**32, description="Size of the model's vocabulary, if known.")
    uses_idf: bool = Field(False, description="Let Qdrant apply IDF, for models trained that way.")


class TeiRerankerOptions(TeiServerOptions):
    """Options of `remote-reranker` with `api: tei`."""

    raw_scores: bool = Field(False, description="Return the model's own scores instead of scores from 0 to 1.")


class ApiRerankerOptions(RemoteOptions):
    """Options of `remote-reranker` with `api: cohere`."""

    model: str = Field(min_length=1, description="Model name, as the endpoint knows it.")
    path: str = Field("/rerank", pattern="^/", description="Path after base_url.")
    batch_size: int = Field(100, ge=1, description="Documents per request.")
    count_field: Literal["top_n", "top_k"] = Field(
        "top_n", description="Name of the request field for the number of scores: `top_n`, or `top_k` at Voyage."
    )
    fields: dict[str, Any] = Field(
        default_factory=dict, description="Extra request fields, such as `{return_documents: false}` for Jina."
    )


class YesNoApiRerankerOptions(_OpenAIAddress, RemoteOptions):
    """Options of the `yes-no-api` adapter."""

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
