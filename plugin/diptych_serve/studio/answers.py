"""Studio's answers as pydantic models, for its OpenAPI document; tests compare them with what it answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from diptych.types import Passage
from diptych_serve.service.answers import ExplainedDocument


class Answer(BaseModel):
    """An answer has no other fields."""

    model_config = ConfigDict(extra="forbid")


class SideFacts(Answer):
    """Something that can be asked."""

    id: str = Field(description="Names it in requests and links.")
    label: str
    kind: Literal["pipeline", "slot", "part", "state", "generation", "yaml"]


class SlotFacts(Answer):
    """A live slot."""

    name: str
    kind: str
    of: str = Field(description="What its vectors are of: text, or a modality of media.")
    adapter: str
    generation: int | None
    vector: str | None


class FieldFacts(Answer):
    """A payload key that filters can use."""

    key: str
    type: str
    indexed: bool


class CollectionFacts(Answer):
    """A served collection."""

    name: str
    documents: int
    sides: list[SideFacts]
    slots: list[SlotFacts]
    tenants: bool = Field(description="Whether questions name a tenant.")
    accepts: list[str] = Field(description="What queries may be of.")
    fields: list[FieldFacts]
    limit: int = Field(description="Hits that a search returns unless told otherwise.")
    error: str | None = Field(description="Why it cannot be asked now; null if it can.")


class Allowed(Answer):
    """What may be done beside reading."""

    write: bool
    judge: bool


class State(Answer):
    """What is served, and what may be done."""

    version: str
    key_required: bool
    may: Allowed
    judged: list[dict[str, Any]] = Field(description="Folders of judged queries.")
    collections: list[CollectionFacts]


class Stage(Answer):
    """How long a stage took."""

    name: str
    milliseconds: float


class WordValue(Answer):
    """What a word adds to the score of its slot."""

    word: str
    value: float


class BlockValue(Answer):
    """What a block of a dense vector adds to the score of its slot."""

    name: str
    value: float


class BeforePart(Answer):
    """A part of the score before the last stage."""

    name: str
    kind: Literal["slot", "boost"]
    value: float


class Part(Answer):
    """A part of a score; all parts sum to it."""

    name: str
    kind: Literal["slot", "word", "block", "boost", "stage", "rest"]
    value: float
    words: list[WordValue]
    blocks: list[BlockValue]


class ShownMedia(Answer):
    """A picture or other media of a document."""

    name: str
    source: str
    bytes: int
    thumbnail: str | None = Field(description="Where its small picture is, below /studio/api; null without one.")


class ShownDocument(Answer):
    """A document as the page shows it. Places count UTF-16 units, as JavaScript does."""

    id: str
    name: str = Field(description="Its title, else the first words of its text, else its id.")
    title: str
    text: str = Field(description="The text, or a part of a long one.")
    text_start: int = Field(description="Where the part begins in the whole text.")
    text_length: int = Field(description="Length of the whole text.")
    thumbnail: str | None
    media: list[ShownMedia]
    payload: dict[str, Any] = Field(description="Long values are cut; integers beyond 2**53 are text.")


class ShownHit(ShownDocument):
    """A hit."""

    score: float
    highlights: list[tuple[int, int]] = Field(description="Begin and end of words that match, within `text`.")
    passages: list[Passage] = Field(description="The best passages, by their places in the whole text.")
    parts: list[Part] | None = Field(None, description="With `explain`.")
    before: list[BeforePart] | None = Field(
        None, description="With `explain`, where a stage such as a reranker gave the whole score: the parts before it."
    )
    why: ExplainedDocument | None = Field(None, description="With `explain`.")


class Found(Answer):
    """The hits of one side."""

    collection: str
    side: SideFacts
    pipeline: str
    milliseconds: float
    stages: list[Stage]
    hits: list[ShownHit]
    warnings: list[str]


class Leg(Answer):
    """A document in one slot."""

    slot: str
    rank: int | None = Field(description="Its place, also beyond the candidates; null where it has none.")
    candidate: bool
    candidates: int
    score: float | None
    contribution: float | None


class Located(Answer):
    """Where a document stands."""

    sentence: str
    exists: bool
    rank: int | None
    score: float | None
    legs: list[Leg]
    parts: list[Part]
    before: list[BeforePart]
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


class QdrantRequest(Answer):
    """What Qdrant's REST interface is asked."""

    method: Literal["POST"]
    path: str
    body: dict[str, Any]


class Snippets(Answer):
    """A query in other words."""

    yaml: str = Field(description="The section of a config.")
    python: str
    curl: str
    qdrant: QdrantRequest
    notes: list[str] = Field(description="What diptych does with Qdrant's answer.")


class Fault(Answer):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class EvaluatedSide(Answer):
    """The mean of a side, with its interval; null for one query."""

    id: str
    label: str
    mean: float
    low: float | None
    high: float | None
    milliseconds: float | None
    generations: dict[str, int] = Field(description="Of the vectors that were asked, by slot.")


class SideDifference(Answer):
    """The second side minus the first."""

    mean: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int
    p: float
    test: str


class QueryRow(Answer):
    """The values of one query; `b`, `difference` and `overlap` are null with one side."""

    id: str
    text: str
    a: float
    b: float | None
    difference: float | None
    overlap: float | None = Field(description="Share of the first hits that both sides have, 0 to 1.")


class SliceRow(Answer):
    """The difference within a group of queries."""

    name: str
    value: str
    queries: int
    difference: float
    low: float
    high: float


class EvaluationResult(Answer):
    """What a job `evaluate` found."""

    metric: str
    verdict: str
    remarks: list[str]
    queries_judged: int
    sides: list[EvaluatedSide]
    difference: SideDifference | None
    queries: list[QueryRow]
    slices: list[SliceRow]


class TrialRow(Answer):
    """A pipeline that was tried."""

    label: str
    quality: float
    low: float
    high: float
    milliseconds: float
    front: bool
    chosen: bool
    tuned: bool
    present: bool
    diff: str = Field(description="Of the config; empty for those that are not worth one.")


class TuningResult(Answer):
    """What a job `tune` found; `baseline` and `chosen` are places in `trials`."""

    verdict: str
    baseline: int
    chosen: int
    passed: bool
    queries: int
    gains: list[str]
    trials: list[TrialRow]
    diff: str
    patch: bool = Field(description="Whether `patch FILE` can apply the diffs.")
    file: str
    remarks: list[str]
    seconds: float


class CheckedSlot(Answer):
    """The check of one slot."""

    name: str
    canary: dict[str, float] | None
    recall: float | None
    at: int
    queries: int
    attention: bool
    text: str


class CheckResult(Answer):
    """What a job `health` found."""

    verdict: str
    slots: list[CheckedSlot]
    queries: int


class JobAnswer(Answer):
    """How far a job is."""

    id: str
    kind: Literal["evaluate", "tune", "health"]
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    sentence: str
    stage: str
    done: int
    total: int | None
    seconds_left: int | None
    result: EvaluationResult | TuningResult | CheckResult | None
    error: Fault | None


class JudgingAnswer(BaseModel):
    """The progress of the preparation, the next pair, or the verdict; `state` says which."""

    model_config = ConfigDict(extra="allow")

    id: str
    state: Literal["waiting", "running", "failed", "cancelled", "judging", "settled", "finished"]
    done: int
    total: int | None
    error: Fault | None
    settled: bool = False
    verdict: str = ""
    query: dict[str, Any] | None = None
    document: dict[str, Any] | None = None
    differences: list[dict[str, Any]] | None = None


class SwapStep(Answer):
    """A step of a swap."""

    name: Literal["plan", "back-fill", "gate", "cut-over"]
    state: Literal["done", "running", "waiting", "failed", "undone"]
    text: str
    done: int | None
    total: int | None
    rate: float | None = Field(description="Documents a second.")
    seconds_left: float | None


class SwapAnswer(Answer):
    """The timeline of a swap."""

    state: Literal["none", "filling", "gate", "stopped", "kept"]
    sentence: str
    steps: list[SwapStep]
    generations: list[dict[str, Any]]
    history: list[dict[str, Any]]
    may_roll_back: bool
    reason: str
    rollback: str
    forward: bool = Field(description="The last cut-over was rolled back, so that a rollback goes forward again.")
    config: dict[str, str] | None = Field(description="`sentence` and lines to `restore`, if the config file is stale.")
    seen: str = Field(description="To be sent with a rollback, which does nothing in another state.")


class RolledBack(Answer):
    """What a rollback did."""

    collection: str
    outcome: str
    live: dict[str, str]
    dropped: list[str]
    retired: list[str]
    warnings: list[str]


class HealthAnswer(Answer):
    """What a collection records and counts of itself."""

    documents: int
    bytes: int | None
    slots: list[dict[str, Any]]
    sentences: list[str]
    config: dict[str, str] | None = Field(description="As `/swap` says it.")
