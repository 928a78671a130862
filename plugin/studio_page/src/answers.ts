/** Requests and answers of /studio/api, made of its OpenAPI document by `make studio-page`: do not edit. */

/** What a collection records and counts of itself: its swap, its vectors, and what needs attention. */
export interface CollectionAnswer {
  state: "none" | "filling" | "gate" | "stopped" | "kept";
  sentence: string;
  documents: number;
  bytes: number | null;
  /** What needs attention, each with what to do. */
  notes: string[];
  steps: SwapStep[];
  vectors: VectorRow[];
  history: Event[];
  /** Why nothing may be rolled back; empty if it may. */
  reason: string;
  /** What a rollback would do. */
  rollback: string;
  /** The last cut-over was rolled back: a rollback goes forward again. */
  forward: boolean;
  /** To be sent with a rollback, which does nothing in another state. */
  seen: string;
}

/** A served collection; without slots while nothing has been populated. */
export interface CollectionFacts {
  name: string;
  documents: number;
  sides: SideFacts[];
  slots: SlotFacts[];
  /** Whether questions name a tenant. */
  tenants: boolean;
  /** What queries may be of. */
  accepts: string[];
  fields: FieldFacts[];
  /** Hits that a search returns unless told otherwise. */
  limit: number;
  /** Why it cannot be asked now; null if it can. */
  error: string | null;
}

/** One run against the baseline, query by query. */
export interface Difference {
  name: string;
  mean: number;
  low: number;
  high: number;
  p_value: number;
  adjusted: number;
  wins: number;
  ties: number;
  losses: number;
  per_query: Record<string, number>;
}

/** `POST /studio/api/locate`: where a document stands. */
export interface DocumentQuestion {
  collection?: string | null;
  side?: string | OwnSearch;
  query: string | MixedQuery;
  filter?: Record<string, unknown> | null;
  tenant?: string | null;
  id: string;
}

/** An error in OpenAI's format. */
export interface ErrorAnswer {
  error: ErrorDetail;
}

/** What happened and what to do. */
export interface ErrorDetail {
  message: string;
  type: string;
  param: string | null;
  code: string;
}

/** The mean of a side, with its interval; null for one query. */
export interface EvaluatedSide {
  id: string;
  label: string;
  mean: number;
  low: number | null;
  high: number | null;
  milliseconds: number;
  /** The generation whose vectors were searched, by slot. */
  generations: Record<string, number>;
}

/** What a job `evaluate` found; `difference` is null where one query was judged, as nothing can be tested then. */
export interface EvaluationResult {
  metric: string;
  verdict: string;
  remarks: string[];
  sides: EvaluatedSide[];
  difference: Difference | null;
  /** How the p-value was computed. */
  test: string;
  queries: QueryRow[];
  slices: SliceDifference[];
}

/** One entry of the history: what was done to which generations, by whom, when, why, and by which config. */
export interface Event {
  what: "created" | "adopted" | "began" | "switched queries" | "changed settings" | "cut over" | "rolled back" | "abandoned" | "finished";
  when: string;
  by: string;
  why: string;
  config: string;
  slots: Record<string, string>;
  gate: string;
}

/** Why a document has its rank: the slots' contributions add up to the fused score. */
export interface ExplainedDocument {
  id: string;
  /** Rank among the hits, from 1; null if it is no hit. */
  rank: number | null;
  score: number | null;
  /** The document's scores in each slot. */
  slots: Record<string, SlotScore>;
  /** Sum of the slots' contributions. */
  fused: number | null;
  /** What each boost adds. */
  boosts: Record<string, number>;
  /** Scores of later stages, such as rerankers. */
  stages: Record<string, number>;
  /** Where it was dropped, if it is no hit. */
  lost: string;
  /** Notes on this search. */
  notes: string[];
}

/** A payload key that filters can use. */
export interface FieldFacts {
  key: string;
  type: string;
  indexed: boolean;
}

/** The hits of one side. */
export interface Found {
  collection: string;
  side: SideFacts;
  pipeline: string;
  milliseconds: number;
  /** How long each stage took. */
  seconds: Record<string, number>;
  hits: ShownHit[];
  warnings: string[];
}

/** What is judged of a query, of documents that the collection holds. */
export interface Grades {
  /** The set of judged queries; null if the query is in none. */
  judged: string | null;
  /** The query's id in the set. */
  query: string | null;
  /** By document. */
  grades: Record<string, number>;
  /** The best first, 100 at most. */
  relevant: RelevantDocument[];
  /** Relevant documents that are not named. */
  more: number;
  /** Relevant documents that are not there; 0 where documents have tenants. */
  absent: number;
}

/** How far a job is. */
export interface JobAnswer {
  id: string;
  kind: "evaluate" | "judging";
  state: "waiting" | "running" | "done" | "failed" | "cancelled";
  /** Where it is, in words. */
  sentence: string;
  done: number;
  total: number | null;
  seconds_left: number | null;
  result: EvaluationResult | null;
  error: ErrorDetail | null;
}

/** A query to judge: its place among those that may be judged, from 1, and how many there are. */
export interface JudgedQuery {
  id: string;
  text: string;
  number: number;
  of: number;
}

/** A query by its words, which may be those of a judged one. */
export interface JudgedQuestion {
  collection?: string | null;
  query: string;
  judged?: string | null;
  tenant?: string | null;
}

/** The progress of the preparation, the next pair, or the verdict; `state` says which. `settled`: the comparison is decided; `finished`: everything is judged, and nothing is decided. */
export interface JudgingAnswer {
  id: string;
  state: "waiting" | "running" | "done" | "failed" | "cancelled" | "judging" | "settled" | "finished";
  sentence: string;
  done: number;
  /** 0 while it is not known. */
  total: number;
  error: ErrorDetail | null;
  settled: boolean;
  /** How much is judged; at the end also the outcome, a line for each side. */
  verdict: string;
  query: JudgedQuery | null;
  document: PooledDocument | null;
  /** Where the judgements are; at the end. */
  folder: string;
  /** The query and document of the judgement that was undone; null if there was none. */
  undone: [string, string] | null;
}

/** A document in one slot. */
export interface Leg {
  slot: string;
  /** Its place, also beyond the candidates; null where it has none. */
  rank: number | null;
  /** Whether it is among the candidates that the pipeline reads. */
  candidate: boolean;
  candidates: number;
  score: number | null;
}

/** Where a document stands. */
export interface Located {
  sentence: string;
  exists: boolean;
  rank: number | null;
  score: number | null;
  legs: Leg[];
  /** They sum to the score. */
  parts: ScorePart[];
  /** Where a stage such as a reranker gave the whole score: the parts of the score before it. */
  before: ScorePart[];
  why: ExplainedDocument | null;
  document: ShownDocument | null;
}

/** A query of media, perhaps with words. */
export interface MixedQuery {
  text?: string;
  media?: Record<string, string> | null;
}

/** `POST /studio/api/jobs`: an evaluation of two sides. */
export interface NewEvaluation {
  collection?: string | null;
  kind: "evaluate";
  judged?: string | null;
  sides: (string | OwnSearch)[];
  metric?: string;
  slices?: string[];
  tenant?: string | null;
}

/** `POST /studio/api/judging/ID`: a grade from 0, not relevant, to 3, exactly what was asked for; null skips. */
export interface NewGrade {
  query: string;
  document: string;
  grade: number | null;
}

/** `POST /studio/api/judging`: the queries of a set, or some of one's own, on two sides. */
export interface NewJudging {
  collection?: string | null;
  judged?: string | null;
  queries?: string[] | null;
  sides: (string | OwnSearch)[];
  who: string;
  complete?: boolean;
  tenant?: string | null;
}

/** An empty object. */
export interface Nothing {
}

/** A side of one's own: the `search` section of a config as YAML. */
export interface OwnSearch {
  yaml: string;
}

/** A part of a document that an encoder read on its own. */
export interface Passage {
  text: string;
  start: number;
  end: number;
  score: number;
}

/** A document to grade, without which side found it. */
export interface PooledDocument {
  id: string;
  name: string;
  title: string;
  text: string;
  thumbnail: string | null;
  /** Documents of the query that are not judged yet, this one included. */
  left: number;
}

/** The values of one query. */
export interface QueryRow {
  id: string;
  text: string;
  a: number;
  b: number;
  /** b minus a. */
  difference: number;
  /** Share of the first hits that both sides have, 0 to 1. */
  overlap: number;
}

/** A set of queries. */
export interface QuerySetFacts {
  name: string;
  queries: number;
  /** How many of the queries have judgements. */
  judged: number;
  /** Why the set cannot be read; null if it can. */
  error: string | null;
}

/** `POST /studio/api/search`: hits of one side. */
export interface Question {
  collection?: string | null;
  side?: string | OwnSearch;
  query: string | MixedQuery;
  filter?: Record<string, unknown> | null;
  tenant?: string | null;
  limit?: number | null;
}

/** A document that was judged relevant. */
export interface RelevantDocument {
  id: string;
  /** As of a hit. */
  name: string;
  grade: number;
}

/** `POST /studio/api/swap/rollback`: `confirm` is the collection's name, `seen` what `/collection` answered. */
export interface RollBack {
  collection?: string | null;
  confirm: string;
  seen?: string;
  why?: string;
}

/** A part of a document's score. */
export interface ScorePart {
  name: string;
  kind: "slot" | "word" | "boost" | "stage" | "rest";
  value: number;
}

/** A document as the page shows it. Places count UTF-16 units, as JavaScript does. */
export interface ShownDocument {
  id: string;
  /** Its title, else the first words of its text, else its id. */
  name: string;
  title: string;
  /** The text, or a part of a long one. */
  text: string;
  /** Where the part begins in the whole text. */
  text_start: number;
  /** Length of the whole text. */
  text_length: number;
  /** Where its picture is, below /studio/api; null without one. */
  thumbnail: string | null;
  /** Long values are cut; integers beyond 2**53 are text. */
  payload: Record<string, unknown>;
}

/** A hit. */
export interface ShownHit {
  id: string;
  /** Its title, else the first words of its text, else its id. */
  name: string;
  title: string;
  /** The text, or a part of a long one. */
  text: string;
  /** Where the part begins in the whole text. */
  text_start: number;
  /** Length of the whole text. */
  text_length: number;
  /** Where its picture is, below /studio/api; null without one. */
  thumbnail: string | null;
  /** Long values are cut; integers beyond 2**53 are text. */
  payload: Record<string, unknown>;
  score: number;
  /** Begin and end of words that match, within `text`. */
  highlights: [number, number][];
  /** The best passages, by their places in the whole text. */
  passages: Passage[];
}

/** Something that can be asked. */
export interface SideFacts {
  /** Names it in requests and links. */
  id: string;
  label: string;
  /** `pipeline`, `slot`, `part`, `state`, `generation` or `yaml`. */
  kind: string;
}

/** One group of the judged queries. */
export interface Slice {
  by: string;
  value: string;
  queries: string[];
}

/** A run against the baseline within one slice; `low` and `high` are corrected for the number of slices. */
export interface SliceDifference {
  slice: Slice;
  mean: number;
  low: number;
  high: number;
}

/** A live slot. */
export interface SlotFacts {
  name: string;
  kind: string;
  /** What its vectors are of: text, or a modality of media. */
  of: string;
  generation: number | null;
  /** Qdrant's name of the live vector. */
  vector: string | null;
}

/** A document in one slot. */
export interface SlotScore {
  score: number | null;
  rank: number | null;
  contribution: number | null;
  terms: Term[];
  passage: Passage | null;
  passages: number;
}

/** A query in other words. */
export interface Snippets {
  /** The section of a config. */
  yaml: string;
  python: string;
}

/** What is served, and what may be done. */
export interface State {
  version: string;
  key_required: boolean;
  /** Whether a rollback may be asked for. */
  may_write: boolean;
  may_judge: boolean;
  judged: QuerySetFacts[];
  collections: CollectionFacts[];
}

/** The result of `rollback`, or of `finish`, after which no rollback is possible. */
export interface StepBack {
  collection: string;
  outcome: string;
  live: Record<string, string>;
  dropped: string[];
  retired: string[];
  warnings: string[];
}

/** A step of a swap. */
export interface SwapStep {
  name: "plan" | "back-fill" | "gate" | "cut-over";
  state: "done" | "running" | "waiting" | "failed" | "undone";
  text: string;
  done: number | null;
  total: number | null;
}

/** A term that query and document share: `contribution` = `query` * `document` * `idf`; `idf` is 1 without IDF. */
export interface Term {
  word: string;
  query: number;
  document: number;
  idf: number;
  contribution: number;
}

/** A vector: who made it, and whether it is whole. */
export interface VectorRow {
  slot: string;
  vector: string;
  generation: number;
  adapter: string;
  model: string;
  /** Those in which it differs from the slot's other generation. */
  options: string[];
  state: string;
  points: number;
  /** Documents without this vector. */
  missing: number;
  /** Who makes the queries instead, and why; empty where the encoder does. */
  asking: string;
  /** The side that searches it; null where nothing can. */
  side: string | null;
  fingerprint: string;
  canaries: string;
  /** How much the encoder does not read of the documents; empty if not counted. */
  unread: string;
  /** What it takes on the disk; null where the store does not tell. */
  bytes: number | null;
}
