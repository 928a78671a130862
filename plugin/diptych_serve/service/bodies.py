"""The bodies of clients' requests as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from diptych.collection.score_documents import MOST_BLOCKS
from diptych.media import Modality
from diptych.search.boost import MOST_PARTS
from diptych.search.options import MOST_IDS, MOST_PASSAGES
from diptych.search.request import MOST_EXAMPLES
from diptych.types import Query

Text = Annotated[str, Field(min_length=1)]
MOST_FIELDS = 64  # keys of a request's object


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _mapped(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


class Body(BaseModel):
    """A request in diptych's own format: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Foreign(BaseModel):
    """A request in another service's format: fields that do not concern diptych are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


Texts = Annotated[
    list[Text],
    Field(fail_fast=True, min_length=1),
    BeforeValidator(_listed, json_schema_input_type=Text | list[Text]),
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


_Mapped = Annotated[RerankDocument, BeforeValidator(_mapped, json_schema_input_type=str | RerankDocument)]


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


class ExampleText(Body):
    """An example by its text."""

    text: Text


Examples = Annotated[list[Text | ExampleText], Field(fail_fast=True, max_length=MOST_EXAMPLES)]
Ids = Annotated[list[Text], Field(fail_fast=True, max_length=MOST_IDS)]


Width = Annotated[int, Field(ge=1)]
Widths = (
    Annotated[list[Width], Field(fail_fast=True, min_length=1, max_length=MOST_BLOCKS)]
    | Annotated[dict[str, Width], Field(min_length=1, max_length=MOST_BLOCKS)]
)
BlocksOfSlots = Annotated[dict[str, Widths], Field(max_length=MOST_FIELDS)]


Inline = Annotated[str, Field(min_length=1, description="A data: URI.")] | list[Any]
InlineMedia = Annotated[dict[Modality, Inline], Field(min_length=1)]


class SearchRequest(Body):
    """`POST /search`."""

    collection: str | None = None
    query: Text | None = None
    queries: Annotated[list[Text], Field(fail_fast=True, min_length=1)] | None = None
    media: InlineMedia | None = None
    slot: str | None = None
    tenant: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    offset: Annotated[int, Field(ge=0)] = 0
    filter: dict[str, Any] | None = None
    score_threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    with_payload: bool | Annotated[list[str], Field(fail_fast=True, max_length=MOST_FIELDS)] = True
    explain: bool = False
    blocks: BlocksOfSlots | None = None
    highlight: bool | None = None
    passages: Annotated[int, Field(ge=0, le=MOST_PASSAGES)] | None = None
    boost: Annotated[list[dict[str, Any]], Field(max_length=MOST_PARTS)] | None = None
    like: Examples = Field(default_factory=list)
    unlike: Examples = Field(default_factory=list)
    pin: Ids | None = None
    exclude: Ids | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SearchRequest:
        """Require either one query, of text or media or both, or several, and blocks only to be explained."""
        if (self.query is None and self.media is None) == (self.queries is None):
            raise ValueError("either `query` or `queries`; `media` beside `query` or alone")
        if self.blocks and not self.explain:
            raise ValueError("`blocks` with `explain: true` only")
        return self

    @property
    def texts(self) -> list[str]:
        """The queries as a list."""
        return self.queries or [self.query or ""]

    @property
    def question(self) -> str | Query:
        """The query, with its media if it has any."""
        text = self.query or ""
        return Query(text, media={str(name): raw for name, raw in self.media.items()}) if self.media else text

    @property
    def examples(self) -> dict[str, list[str | Query]]:
        """The examples as options of a search."""

        def read(examples: list[str | ExampleText]) -> list[str | Query]:
            return [Query(one.text) if isinstance(one, ExampleText) else one for one in examples]

        return {"like": read(self.like), "unlike": read(self.unlike)}

    @property
    def example_texts(self) -> list[str]:
        """The texts of examples, which are encoded as the query is."""
        return [one.text for one in (*self.like, *self.unlike) if isinstance(one, ExampleText)]


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
