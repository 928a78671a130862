"""Inputs and outputs of the tools as pydantic models. Language models read their schemas."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field

from diptych.media import Modality
from diptych.search.request import MOST_EXAMPLES
from diptych.service.search_answers import CollectionDescription, ExplainedDocument, FoundDocument

MOST_HITS, MOST_EXPLAINED, MOST_DOCUMENTS, MOST_CHARACTERS = 100, 20, 1000, 100_000
MOST_PASSAGES = 100

CollectionName: TypeAlias = Annotated[
    str | None, Field(description="Name of the collection, as `info` lists it. May be left out when there is only one.")
]
QueryText: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=MOST_CHARACTERS, description="What to look for: words, a phrase or a question."),
]
SlotName: TypeAlias = Annotated[
    str | None,
    Field(description="Search this slot alone, such as the dense or the lexical one; left out, the whole pipeline."),
]
FilterJson: TypeAlias = Annotated[
    dict[str, Any] | None,
    Field(
        description="A Qdrant filter over the metadata, such as "
        '{"must": [{"key": "section", "match": {"value": "mail"}}]}. Left out, every document counts.'
    ),
]


TenantName: TypeAlias = Annotated[
    str | None, Field(description="Whose documents, in a collection whose documents belong to tenants.")
]


PinnedIds: TypeAlias = Annotated[
    list[str] | None,
    Field(max_length=MOST_HITS, description="Ids of documents that come first, in this order, whatever the query."),
]
ExcludedIds: TypeAlias = Annotated[
    list[str] | None, Field(max_length=MOST_DOCUMENTS, description="Ids of documents to leave out.")
]
LikedIds: TypeAlias = Annotated[
    list[str] | None,
    Field(max_length=MOST_EXAMPLES, description="Ids of helpful documents: find more like them."),
]
UnlikedIds: TypeAlias = Annotated[
    list[str] | None,
    Field(max_length=MOST_EXAMPLES, description="Ids of unhelpful documents: find others unlike them."),
]


BlocksOfSlots: TypeAlias = Annotated[
    dict[str, list[int] | dict[str, int]] | None,
    Field(
        description="By dense slot, the widths of the blocks of its vectors in order, or names with widths, such as "
        '{"dense": {"title": 384, "text": 384}}: adds the part of each block in the score.'
    ),
]


PassageCount: TypeAlias = Annotated[
    Annotated[int, Field(ge=0, le=MOST_PASSAGES)] | None,
    Field(
        description="How many of the best passages of each hit are returned, in collections that have passages; left "
        "out, as the config says, mostly 3."
    ),
]


HighlightFlag: TypeAlias = Annotated[
    bool | None,
    Field(
        description="Return of each hit the sentence that answers best, and the places of the words that match, in "
        "`highlight`. Takes longer; left out, as the config says, mostly not."
    ),
]


MediaOfQuery: TypeAlias = Annotated[
    dict[Modality, str | list[Any]] | None,
    Field(
        description="A picture and the like to look for, beside the words, in collections with slots that read media: "
        'by modality a data: URI, such as {"image": "data:image/png;base64,..."}, or numbers in lists.'
    ),
]


class SearchResult(BaseModel):
    """The hits, best first."""

    collection: str
    hits: list[FoundDocument]


class ExplainResult(BaseModel):
    """Why each document has its rank."""

    collection: str
    pipeline: str = Field(description="The stages that were run.")
    explanations: list[ExplainedDocument]


class InfoResult(BaseModel):
    """The collections of this server."""

    collections: list[CollectionDescription]


class NewDocument(BaseModel):
    """A document to write."""

    id: Annotated[str, Field(min_length=1, description="Unique in the collection; a known id replaces that document.")]
    text: str
    title: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict, description="JSON values that filters can use.")
    media: dict[Modality, str | list[Any]] = Field(
        default_factory=dict, description="A picture and the like by modality, as a data: URI or numbers in lists."
    )


Documents: TypeAlias = Annotated[
    list[NewDocument], Field(min_length=1, max_length=MOST_DOCUMENTS, description="The documents.")
]
Ids: TypeAlias = Annotated[
    list[str] | None,
    Field(max_length=MOST_EXPLAINED, description="Explain these documents, hits or not, instead of the hits."),
]
Limit: TypeAlias = Annotated[
    Annotated[int, Field(ge=1, le=MOST_HITS)] | None,
    Field(description="How many hits; left out, as many as the collection's config says, mostly 10."),
]
ExplainLimit: TypeAlias = Annotated[
    Annotated[int, Field(ge=1, le=MOST_EXPLAINED)] | None,
    Field(description="How many hits are explained; left out, as many as a search gives."),
]
TextLength: TypeAlias = Annotated[
    int, Field(ge=0, description="Characters of each text that are returned; a text that is cut ends with an ellipsis.")
]
SyncFlag: TypeAlias = Annotated[
    bool, Field(description="Delete the collection's other documents: these are all that it should hold.")
]
DryRun: TypeAlias = Annotated[bool, Field(description="Only count what would be done; write nothing.")]
YesFlag: TypeAlias = Annotated[
    bool,
    Field(description="Let `sync` delete more than the config allows (default: a fifth), and documents lose media."),
]
