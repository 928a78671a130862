"""The requests of clients: bodies as pydantic models, read from HTTP; invalid ones and names of files are refused."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model, model_validator
from starlette.requests import ClientDisconnect, Request

from diptych import Collection
from diptych.errors import SearchError, brief
from diptych.media import Modality
from diptych.media.read import is_data_uri
from diptych.populate.sources.readers import Row
from diptych.runtime.validation_messages import actual_value, error_path, expectation
from diptych.search import ExplainOptions, SearchOptions, option_fields
from diptych.types import Query
from diptych_serve.service.access import Limits
from diptych_serve.service.admission import Refused

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:|file:", re.IGNORECASE)

NOT_OPENED = "a server does not open files or addresses that a client names"
MOST_DIGITS = 19  # of a Content-Length: more than any body has; Python reads at most 4,300
JSON = "application/json"
CLOSE = {"Connection": "close"}
INPUTS = ("input", "queries", "documents")
INLINE = 16 * 1024  # bytes of a body that is read within the event loop; more are read in a thread
Asked = TypeVar("Asked", bound=BaseModel)
Text = Annotated[str, Field(min_length=1)]
MOST_FIELDS = 64  # keys of a request's object


class Body(BaseModel):
    """A request in diptych's own format: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Foreign(BaseModel):
    """A request in another service's format: fields that do not concern diptych are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


Texts = Annotated[
    list[Text],
    Field(fail_fast=True, min_length=1),
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=Text | list[Text]
    ),
]


class EmbeddingsRequest(_Foreign):
    """`POST /v1/embeddings` in OpenAI's format; `input_type` chooses the side of the encoder."""

    model: Text
    input: Texts  # one text alone, too
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    input_type: Literal["query", "document"] | None = None


class RerankDocument(_Foreign):
    """A document: its text, or a mapping that holds it."""

    text: str


_Mapped = Annotated[
    RerankDocument,
    BeforeValidator(
        lambda value: {"text": value} if isinstance(value, str) else value, json_schema_input_type=str | RerankDocument
    ),
]


class RerankRequest(_Foreign):
    """`POST /rerank` in Cohere's format."""

    model: Text | None = None
    query: Text
    documents: Annotated[list[_Mapped], Field(fail_fast=True, min_length=1)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool = False

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [document.text for document in self.documents]


Inline = Annotated[str, Field(min_length=1, description="A data: URI.")]
InlineMedia = Annotated[dict[Modality, Inline], Field(min_length=1)]


class SearchBody(Body):
    """What a search takes beside its options."""

    collection: str | None = None
    query: Text | None = None
    queries: Annotated[list[Text], Field(fail_fast=True, min_length=1)] | None = None
    media: InlineMedia | None = None
    explain: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Require either one query, of text or media or both, or several."""
        if (self.query is None and self.media is None) == (self.queries is None):
            raise ValueError("either `query` or `queries`; `media` beside `query` or alone")
        return self

    @property
    def texts(self) -> list[str]:
        """The queries as a list."""
        return self.queries or [self.query or ""]

    @property
    def questions(self) -> list[str | Query]:
        """The queries, that of one request with its media if it has any."""
        return [*self.queries] if self.queries else [question_of(self.query or "", self.media)]

    @property
    def options(self) -> SearchOptions:
        """The options of the search."""
        return cast(SearchOptions, {name: getattr(self, name) for name in REMOTE_OPTIONS})


def question_of(text: str, media: Mapping[Modality, str] | None) -> str | Query:
    """A query of these words, with its media if it has any."""
    return Query(text, media={str(name): raw for name, raw in media.items()}) if media else text


# The cost of a search is the server's to choose.
REMOTE_OPTIONS = {name: field for name, field in option_fields().items() if name != "params"}
SearchRequest = create_model("SearchRequest", __base__=SearchBody, __doc__="`POST /search`.", **REMOTE_OPTIONS)


def example_texts(options: ExplainOptions) -> list[str]:
    """The texts of examples, which are encoded as the query is."""
    examples = (*(options.get("like") or ()), *(options.get("unlike") or ()))
    return [example.text for example in examples if isinstance(example, Query)]


class DocumentsRequest(Body):
    """`PUT /documents`: each document has `id` and `text`, may have `title`, and `metadata` or further keys.

    In a collection with slots that read media it may have `media`, as a search has; then `text` may be missing.
    """

    documents: Annotated[list[dict[str, Any]], Field(fail_fast=True, min_length=1)]
    collection: str | None = None
    tenant: str | None = None
    dry_run: bool = False


class PopulateOptions(BaseModel):
    """The query of `POST /populate`."""

    model_config = ConfigDict(extra="forbid")

    collection: str | None = None
    tenant: str | None = None
    sync: bool = Field(False, description="Delete documents that are not in the body.")
    dry_run: bool = Field(False, description="Only count what would change; write nothing.")
    yes: bool = Field(
        False, description="Let `sync` delete more than `populate.max_deleted` allows, and let documents lose media."
    )


async def read(request: Request, kind: type[Asked], limits: Limits) -> Asked:
    """Read the request's body as `kind`.

    Raises:
        Refused: it is too large, comes too slowly, is not called JSON, or is no such request.
    """
    require_kind(request, [JSON])
    body = await read_body(request, limits)
    if len(body) <= INLINE:
        return parsed(body, kind, limits)
    return await asyncio.to_thread(parsed, body, kind, limits)


def parsed(body: bytes, kind: type[Asked], limits: Limits) -> Asked:
    """Parse a body as `kind`; reports only the first fault.

    Raises:
        Refused: it is no such request, or one of too many inputs.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"the request cannot be read\n  expected: JSON: {error}"
        raise Refused(400, message, code="invalid_value") from None
    if isinstance(content, dict):
        _require_few(content, limits)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _malformed(error) from None


def _require_few(content: dict[str, Any], limits: Limits) -> None:
    """Raise Refused for more keys or inputs than allowed, before any is looked at."""
    if len(content) > MOST_FIELDS:
        message = f"the request has too many keys\n  got: {len(content)}\n  expected: at most {MOST_FIELDS}"
        raise Refused(400, message, code="invalid_value")
    for name, value in content.items():
        many = isinstance(value, list) and len(value) > limits.inputs
        if name in INPUTS and many and isinstance(value[0], str | dict):
            raise _too_many(len(value), limits, name)


def read_query(request: Request, kind: type[Asked]) -> Asked:
    """Read the query string as `kind`.

    Raises:
        Refused: it is none.
    """
    params = dict(request.query_params)
    if len(params) > MOST_FIELDS:
        raise Refused(400, "the query has too many keys", code="invalid_value")
    try:
        return kind.model_validate(params)
    except ValidationError as error:
        raise _malformed(error) from None


def require_kind(request: Request, kinds: Sequence[str]) -> None:
    """Raise Refused unless the body's media type is one of these.

    Any web page may have a browser send text or a form to the service without leave, but not these.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    json = kinds[0] == JSON and kind.startswith("application/") and kind.endswith("+json")
    if kind not in kinds and not json:
        raise Refused(
            415,
            f"the body is of another type\n  got: {kind[:80] or 'no Content-Type'}"
            f"\n  expected: {' or '.join(kinds)}\n  do: send the header Content-Type: {kinds[0]}",
            code="unsupported_media_type",
        )


def require_room(limits: Limits, texts: Sequence[str], *, param: str) -> None:
    """Raise Refused when there are too many inputs or one is too long."""
    if len(texts) > limits.inputs:
        raise _too_many(len(texts), limits, param)
    for position, text in enumerate(texts):
        if len(text) > limits.characters:
            raise Refused(
                422,
                f"an input is too long\n  where: {param}[{position}]\n  got: {len(text)} characters\n"
                f"  expected: at most {limits.characters}",
                code="input_too_long",
                param=param,
            )


def _too_many(count: int, limits: Limits, param: str) -> Refused:
    message = f"too many inputs in one request\n  got: {count}\n  expected: at most {limits.inputs}"
    return Refused(422, f"{message}\n  do: send them in several requests", code="too_many_inputs", param=param)


async def read_body(request: Request, limits: Limits) -> bytes:
    """The request's body.

    Raises:
        Refused: as `pieces`.
    """
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) <= MOST_DIGITS):
        raise Refused(400, "Content-Length is not a number of bytes", code="invalid_value")
    if int(length) > limits.body:
        raise _too_large(limits.body)
    return b"".join([piece async for piece in pieces(request, limits, limits.body)])


async def pieces(request: Request, limits: Limits, most: int, rate: float = math.inf) -> AsyncIterator[bytes]:
    """The body, as its pieces come.

    Args:
        request: whose body.
        limits: how long a piece may take, and all of them together.
        most: bytes of all pieces.
        rate: bytes per second that the body must have on average after `Limits.body_seconds`; inf for none then.

    Raises:
        Refused: it is too large, comes too slowly, or its client goes away. The first two end the connection, which
            would wait for the rest.
    """
    size, start, stream = 0, time.monotonic(), request.stream().__aiter__()
    while True:
        remaining = start + limits.body_seconds + size / rate - time.monotonic()
        try:
            async with asyncio.timeout(min(remaining, limits.body_seconds)):
                piece = await anext(stream, None)
        except TimeoutError:
            then = "" if math.isinf(rate) else f", then {rate:g} bytes per second"
            message = f"the body comes too slowly\n  expected: what comes within {limits.body_seconds:g} s{then}"
            raise Refused(408, message, code="timeout", headers=CLOSE) from None
        except ClientDisconnect:
            raise Refused(400, "the client went away", code="disconnected") from None
        if piece is None:
            return
        size += len(piece)
        if size > most:
            raise _too_large(most)
        yield piece


def _too_large(most: int) -> Refused:
    message = f"the request's body is too large\n  expected: at most {most} bytes\n  do: send several requests"
    return Refused(413, message, code="request_too_large", headers=CLOSE)


def _malformed(error: ValidationError) -> Refused:
    details = error.errors(include_url=False)
    if any(detail["loc"][:1] == ("input",) and isinstance(_innermost(detail["input"]), int) for detail in details):
        return Refused(
            400,
            "this service reads texts, not tokens\n  where: input\n  got: token ids\n  expected: one text or a list"
            "\n  do: tell the client not to tokenise (LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)",
            code="invalid_value",
            param="input",
        )
    first = details[0]
    where, expected = error_path(first), expectation(first, mapping="an object")
    got = actual_value(first)
    parts = (("where", where), ("got", got), ("expected", expected))
    text = "".join(f"\n  {label}: {value}" for label, value in parts if value)
    return Refused(400, f"the request cannot be read{text}", code="invalid_value", param=where or None)


def _innermost(value: Any) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    return None if isinstance(value, bool) else value


def require_words(texts: Iterable[str], accepts: Sequence[str], *, where: str) -> None:
    """Raise SearchError for a path or address, if the encoder accepts more than text and would open it.

    Args:
        texts: what a client sent.
        accepts: kinds of input that the encoder takes.
        where: how the error calls the encoder.
    """
    if set(accepts) <= {"text"}:
        return
    for text in filter(str.strip, texts):
        if _ADDRESS.match(text.strip()) or _is_file(text.strip()):
            raise SearchError(NOT_OPENED, where=where, got=repr(text[:80]), expected="words")


def require_inline(media: Mapping[Any, Any], *, where: str) -> None:
    """Raise SearchError for media that a client sent by their name, not as data: URIs."""
    for modality, raw in media.items():
        if not (isinstance(raw, str) and is_data_uri(raw)):
            of_modality, expected = f"{where}, {str(modality)[:80]}", "media as a data: URI"
            raise SearchError(NOT_OPENED, where=of_modality, got=brief(raw), expected=expected)


def require_question(collection: Collection, texts: Sequence[str], media: Mapping[Any, Any] | None = None) -> None:
    """Raise SearchError for a query that names files or addresses, which an encoder of the collection would open."""
    where = f"collection {collection.name!r}"
    require_words(texts, accepted(collection), where=where)
    require_inline(media or {}, where=f"{where}, media")


def accepted(collection: Collection, *, documents: bool = False) -> list[str]:
    """All kinds of input that the collection's encoders accept; with `documents`, of those that read texts of them."""
    slots = collection.handle.slots.values()
    return [kind for slot in slots if not (documents and slot.reads_media) for kind in slot.spec.accepts]


def of_words(collection: Collection, rows: Iterable[Any]) -> Iterator[Any]:
    """The rows, after checking that nothing in them would be opened as a file or address."""
    kinds, has_media = (
        accepted(collection, documents=True),
        any(slot.reads_media for slot in collection.handle.slots.values()),
    )
    where = f"collection {collection.name!r}"
    for row in rows:
        if isinstance(row, Mapping):
            marked = isinstance(row, Row) and row.has_media  # by the header of an exported file
            if (has_media or marked) and isinstance(row.get("media"), Mapping):
                require_inline(row["media"], where=where)
            title, text = (value if isinstance(value, str) else "" for value in (row.get("title"), row.get("text")))
            read_by_encoders = collection.handle.view.reading.of(title, text)
            require_words([title, text, read_by_encoders], kinds, where=where)
        yield row


def _is_file(text: str) -> bool:
    """Whether an encoder could find a file with this name."""
    try:
        return text.startswith(("/", "~", "\\\\")) or Path(text).exists()
    except (OSError, ValueError):
        return False
