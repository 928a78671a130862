"""What Studio answers: its OpenAPI document and the page's TypeScript types are made from these models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from diptych.collection.explain import ScorePart
from diptych.evaluate import Difference, SliceDifference
from diptych.metadata.models import Event
from diptych.types import Passage
from diptych_serve.service.answers import ErrorDetail, ExplainedDocument

SwapState: TypeAlias = Literal["none", "filling", "gate", "stopped", "kept"]
JobState: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]
JobKind: TypeAlias = Literal["evaluate", "judging"]


class Answer(BaseModel):
    """An answer has no other fields."""

    model_config = ConfigDict(extra="forbid")


class SideFacts(Answer, from_attributes=True):
    """Something that can be asked."""

    id: str = Field(description="Names it in requests and links.")
    label: str
    kind: str = Field(description="`pipeline`, `slot`, `part`, `state`, `generation` or `yaml`.")


class SlotFacts(Answer):
    """A live slot."""

    name: str
    kind: str
    of: str = Field(description="What its vectors are of: text, or a modality of media.")
    generation: int | None
    vector: str | None = Field(description="Qdrant's name of the live vector.")


class FieldFacts(Answer):
    """A payload key that filters can use."""

    key: str
    type: str
    indexed: bool


class CollectionFacts(Answer):
    """A served collection; without slots while nothing has been populated."""

    name: str
    documents: int = 0
    sides: list[SideFacts] = []
    slots: list[SlotFacts] = []
    tenants: bool = Field(False, description="Whether questions name a tenant.")
    accepts: list[str] = Field([], description="What queries may be of.")
    fields: list[FieldFacts] = []
    limit: int = Field(0, description="Hits that a search returns unless told otherwise.")
    error: str | None = Field(None, description="Why it cannot be asked now; null if it can.")


class QuerySetFacts(Answer):
    """A set of queries."""

    name: str
    queries: int = 0
    judged: int = Field(0, description="How many of the queries have judgements.")
    error: str | None = Field(None, description="Why the set cannot be read; null if it can.")


class State(Answer):
    """What is served, and what may be done."""

    version: str
    key_required: bool
    may_write: bool = Field(description="Whether a rollback may be asked for.")
    may_judge: bool
    judged: list[QuerySetFacts]
    collections: list[CollectionFacts]


class ShownDocument(Answer):
    """A document as the page shows it. Places count UTF-16 units, as JavaScript does."""

    id: str
    name: str = Field(description="Its title, else the first words of its text, else its id.")
    title: str
    text: str = Field(description="The text, or a part of a long one.")
    text_start: int = Field(description="Where the part begins in the whole text.")
    text_length: int = Field(description="Length of the whole text.")
    thumbnail: str | None = Field(description="Where its picture is, below /studio/api; null without one.")
    payload: dict[str, Any] = Field(description="Long values are cut; integers beyond 2**53 are text.")


class ShownHit(ShownDocument):
    """A hit."""

    score: float
    highlights: list[tuple[int, int]] = Field(description="Begin and end of words that match, within `text`.")
    passages: list[Passage] = Field(description="The best passages, by their places in the whole text.")


class Found(Answer):
    """The hits of one side."""

    collection: str
    side: SideFacts
    pipeline: str
    milliseconds: float
    seconds: Mapping[str, float] = Field(description="How long each stage took.")
    hits: list[ShownHit]
    warnings: list[str]


class Leg(Answer):
    """A document in one slot."""

    slot: str
    rank: int | None = Field(description="Its place, also beyond the candidates; null where it has none.")
    candidate: bool = Field(description="Whether it is among the candidates that the pipeline reads.")
    candidates: int
    score: float | None


class Located(Answer):
    """Where a document stands."""

    sentence: str
    exists: bool = False
    rank: int | None = None
    score: float | None = None
    legs: list[Leg] = []
    parts: list[ScorePart] = Field([], description="They sum to the score.")
    before: list[ScorePart] = Field(
        [], description="Where a stage such as a reranker gave the whole score: the parts of the score before it."
    )
    why: ExplainedDocument | None = None
    document: ShownDocument | None = None


class RelevantDocument(Answer):
    """A document that was judged relevant."""

    id: str
    name: str = Field(description="As of a hit.")
    grade: int


class Grades(Answer):
    """What is judged of a query, of documents that the collection holds."""

    judged: str | None = Field(description="The set of judged queries; null if the query is in none.")
    query: str | None = Field(description="The query's id in the set.")
    grades: dict[str, int] = Field(description="By document.")
    relevant: list[RelevantDocument] = Field(description="The best first, 100 at most.")
    more: int = Field(description="Relevant documents that are not named.")
    absent: int = Field(description="Relevant documents that are not there; 0 where documents have tenants.")


class Snippets(Answer):
    """A query in other words."""

    yaml: str = Field(description="The section of a config.")
    python: str


class EvaluatedSide(Answer):
    """The mean of a side, with its interval; null for one query."""

    id: str
    label: str
    mean: float
    low: float | None
    high: float | None
    milliseconds: float
    generations: dict[str, int] = Field(description="The generation whose vectors were searched, by slot.")


class QueryRow(Answer):
    """The values of one query."""

    id: str
    text: str
    a: float
    b: float
    difference: float = Field(description="b minus a.")
    overlap: float = Field(description="Share of the first hits that both sides have, 0 to 1.")


class EvaluationResult(Answer):
    """What a job `evaluate` found; `difference` is null where one query was judged, as nothing can be tested then."""

    metric: str
    verdict: str
    remarks: list[str]
    sides: list[EvaluatedSide]
    difference: Difference | None
    test: str = Field(description="How the p-value was computed.")
    queries: list[QueryRow]
    slices: list[SliceDifference]


class JobAnswer(Answer):
    """How far a job is."""

    id: str
    kind: JobKind
    state: JobState
    sentence: str = Field(description="Where it is, in words.")
    done: int
    total: int | None
    seconds_left: int | None
    result: EvaluationResult | None
    error: ErrorDetail | None


class JudgedQuery(Answer):
    """A query to judge: its place among those that may be judged, from 1, and how many there are."""

    id: str
    text: str
    number: int
    of: int


class PooledDocument(Answer):
    """A document to grade, without which side found it."""

    id: str
    name: str = ""
    title: str = ""
    text: str = "(the document has been deleted)"
    thumbnail: str | None = None
    left: int = Field(description="Documents of the query that are not judged yet, this one included.")


class JudgingAnswer(Answer):
    """The progress of the preparation, the next pair, or the verdict; `state` says which.

    `settled`: the comparison is decided; `finished`: everything is judged, and nothing is decided.
    """

    id: str
    state: Literal["waiting", "running", "done", "failed", "cancelled", "judging", "settled", "finished"]
    sentence: str = ""
    done: int
    total: int = Field(0, description="0 while it is not known.")
    error: ErrorDetail | None = None
    settled: bool = False
    verdict: str = Field("", description="How much is judged; at the end also the outcome, a line for each side.")
    query: JudgedQuery | None = None
    document: PooledDocument | None = None
    folder: str = Field("", description="Where the judgements are; at the end.")
    undone: tuple[str, str] | None = Field(
        None, description="The query and document of the judgement that was undone; null if there was none."
    )


class SwapStep(Answer):
    """A step of a swap."""

    name: Literal["plan", "back-fill", "gate", "cut-over"]
    state: Literal["done", "running", "waiting", "failed", "undone"]
    text: str
    done: int | None = None
    total: int | None = None


class VectorRow(Answer):
    """A vector: who made it, and whether it is whole."""

    slot: str
    vector: str
    generation: int
    adapter: str
    model: str
    options: list[str] = Field(description="Those in which it differs from the slot's other generation.")
    state: str
    points: int
    missing: int = Field(description="Documents without this vector.")
    asking: str = Field(description="Who makes the queries instead, and why; empty where the encoder does.")
    side: str | None = Field(description="The side that searches it; null where nothing can.")
    fingerprint: str
    canaries: str
    unread: str = Field(description="How much the encoder does not read of the documents; empty if not counted.")
    bytes: int | None = Field(description="What it takes on the disk; null where the store does not tell.")


class CollectionAnswer(Answer):
    """What a collection records and counts of itself: its swap, its vectors, and what needs attention."""

    state: SwapState
    sentence: str
    documents: int = 0
    bytes: int | None = None
    notes: list[str] = Field(description="What needs attention, each with what to do.")
    steps: list[SwapStep] = []
    vectors: list[VectorRow] = []
    history: tuple[Event, ...] = ()
    reason: str = Field(description="Why nothing may be rolled back; empty if it may.")
    rollback: str = Field("", description="What a rollback would do.")
    forward: bool = Field(False, description="The last cut-over was rolled back: a rollback goes forward again.")
    seen: str = Field("", description="To be sent with a rollback, which does nothing in another state.")
