"""The options of the remote adapters, cheap to import."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ByteSize, Field

from diptych_adapters.model_options import Options
from diptych_adapters.yes_no_prompt import ANSWERS, INSTRUCTION, Answers

COHERE_URL = "https://api.cohere.com/v2"
OPENAI_URL = "https://api.openai.com/v1"
OPENAI = (OPENAI_URL, "OPENAI_API_KEY")  # address and key, as `RemoteOptions.with_key_of` takes them


class RemoteOptions(Options):
    """Address, key, timeouts and retries of an endpoint."""

    base_url: str = Field(
        description="The endpoint's address, such as `http://localhost:8080`; never with a key in it."
    )
    api_key_env: str | None = Field(None, description="NAME of the environment variable that holds the key.")
    api_key_header: str = Field(
        "Authorization",
        description="Header that carries the key: `Authorization` as `Bearer KEY`, others the bare key.",
    )
    batch_size: int = Field(32, ge=1, description="Texts in one request.")
    max_concurrency: int = Field(4, ge=1, le=64, description="Requests that are under way at once.")
    timeout: float = Field(
        60.0, gt=0, le=86_400, description="Seconds for one attempt, from connecting to the answer's last byte."
    )
    deadline: float = Field(
        300.0, gt=0, le=86_400, description="Seconds for one request with all its retries and waits."
    )
    query_deadline: float = Field(
        60.0, gt=0, le=86_400, description="The same for queries and rerankers, for which somebody waits."
    )
    retries: int = Field(5, ge=0, le=1000, description="Further attempts after 429, 5xx and broken connections.")
    backoff: float = Field(
        0.5, ge=0, le=86_400, description="Longest wait in seconds before the first retry; it doubles each time."
    )
    max_retry_wait: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="Longest wait in seconds before a retry; a Retry-After above it ends the attempts.",
    )
    max_answer_size: ByteSize | None = Field(
        None, ge=1, description="Longest answer that is read; 16MB or 128KB for each text of a batch when not given."
    )
    max_characters: int | None = Field(None, ge=1, description="Cut longer texts before they are sent.")

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

    query_prompt: str = Field("", description="Put before each query.")
    document_prompt: str = Field("", description="Put before each document.")
    query_fields: dict[str, Any] = Field(
        default_factory=dict, description="Sent along with queries, such as `{input_type: query}`."
    )
    document_fields: dict[str, Any] = Field(
        default_factory=dict, description="Sent along with documents, such as `{input_type: document}`."
    )


class _Dense(RemoteOptions, _Sides):
    dimension: int | None = Field(
        None, ge=1, description="Length of the vectors; measured by one request when not given."
    )
    similarity: Literal["cosine", "dot", "euclidean"] = Field("cosine", description="How the model's vectors compare.")


class _OpenAI(RemoteOptions):
    base_url: str = Field(OPENAI_URL, description="The address up to and including `/v1`; never with a key in it.")
    api_key_env: str | None = Field(
        None,
        description="NAME of the environment variable with the key; for OpenAI itself OPENAI_API_KEY when not given.",
    )


class OpenAIOptions(_OpenAI, _Dense):
    """Options of the `openai` adapter."""

    model: str = Field(min_length=1, description="The model's name, as the endpoint knows it.")
    batch_size: int = Field(128, ge=1, le=2048, description="Texts in one request.")
    dimensions: int | None = Field(None, ge=1, description="Ask the model for shorter vectors of this length.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None,
        description="How vectors travel; `base64` takes a third of the bytes; the server's default when not given.",
    )


class CohereOptions(_Dense):
    """Options of the `cohere` adapter."""

    base_url: str = Field(COHERE_URL, description="The address up to and including `/v2`; never with a key in it.")
    api_key_env: str | None = Field(
        None,
        description="NAME of the environment variable with the key; for Cohere itself COHERE_API_KEY when not given.",
    )
    model: str = Field(min_length=1, description="The model's name, such as `embed-v4.0`.")
    batch_size: int = Field(96, ge=1, le=96, description="Texts in one request; Cohere takes 96 at most.")
    dimensions: int | None = Field(None, ge=1, description="Ask the model for shorter vectors of this length.")
    truncate: Literal["END", "START", "NONE"] = Field("END", description="The end that is cut off texts too long.")
    query_fields: dict[str, Any] = Field(
        default_factory=lambda: {"input_type": "search_query"}, description="Sent along with queries."
    )
    document_fields: dict[str, Any] = Field(
        default_factory=lambda: {"input_type": "search_document"}, description="Sent along with documents."
    )


class _Tei(RemoteOptions):
    truncate: bool = Field(True, description="Let the server cut texts that are too long; else it refuses them.")
    truncation_direction: Literal["right", "left"] = Field("right", description="The end that is cut off.")


class TeiOptions(_Dense, _Tei):
    """Options of the `tei` adapter."""

    normalize: bool = Field(True, description="Make vectors unit length.")


class TeiSparseOptions(_Sides, _Tei):
    """Options of the `tei-sparse` adapter."""

    dimension: int = Field(2**32, ge=1, le=2**32, description="Size of the model's vocabulary, when known.")
    uses_idf: bool = Field(False, description="Let Qdrant multiply by IDF, for models that are trained so.")


class TeiRerankerOptions(_Tei):
    """Options of the `tei-reranker` adapter."""

    raw_scores: bool = Field(False, description="The model's own scores instead of ones between 0 and 1.")


class RerankApiOptions(RemoteOptions):
    """Options of the `rerank-api` adapter."""

    model: str = Field(min_length=1, description="The model's name, as the endpoint knows it.")
    path: str = Field("/rerank", pattern="^/", description="What follows base_url, such as `/rerank`.")
    batch_size: int = Field(100, ge=1, description="Documents in one request.")
    count_field: Literal["top_n", "top_k"] = Field(
        "top_n", description="What the endpoint calls the number of scores: `top_n`, at Voyage `top_k`."
    )
    fields: dict[str, Any] = Field(
        default_factory=dict, description="Sent along, such as `{return_documents: false}` for Jina."
    )


class YesNoApiOptions(_OpenAI):
    """Options of the `yes-no-api` adapter."""

    model: str = Field(min_length=1, description="The chat model's name, as the endpoint knows it.")
    instruction: str = Field(INSTRUCTION, min_length=1, description="The task; it stands before query and document.")
    answers: Answers = Field(ANSWERS, description="The word for relevant and the one for irrelevant.")
    raw_scores: bool = Field(False, description="Log-odds of the two words instead of scores from 0 to 1.")
    batch_size: int = Field(1, ge=1, le=1, description="Pairs in one request: always one; see `max_concurrency`.")
    top_logprobs: int = Field(
        20, ge=2, le=1000, description="Tokens whose log-probability is requested; at OpenAI up to 20."
    )
    max_characters: int | None = Field(6000, ge=1, description="Cut longer documents before they are sent.")
    fields: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of each request, such as `{chat_template_kwargs: {enable_thinking: false}}`; null "
        "removes a field.",
    )
