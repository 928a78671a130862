/** Requests and answers of /search, /locate and /snippets. */
import type { Side, SideInfo } from "./studio";

export interface MixedQuery {
  text: string;
  media: Record<string, string>;
}

export interface Question {
  collection: string;
  query: string | MixedQuery;
  limit: number;
  filter?: Filter;
  tenant?: string;
}

export interface SearchBody extends Question {
  side: Side;
  explain?: boolean;
}

export interface Filter {
  must?: Condition[];
  must_not?: Condition[];
}

export interface Condition {
  key: string;
  match?: { value?: string | number | boolean; any?: (string | number)[] };
  range?: { gte?: number; lte?: number };
}

export interface Stage {
  name: string;
  milliseconds: number;
}

export interface Passage {
  text: string;
  start: number;
  end: number;
  score: number;
}

export interface WordPart {
  word: string;
  value: number;
}

/** A part of a score; all parts of a hit sum to its score. */
export interface Part {
  name: string;
  kind: string;
  value: number;
  words?: WordPart[];
}

export interface Hit {
  id: string;
  score: number;
  /** Its title, else the first words of its text, else its id. */
  name: string;
  title: string;
  text: string;
  /** Where `text` begins in the whole text, which is cut when it is long. */
  text_start: number;
  text_length: number;
  /** Begin and end of matched words, in UTF-16 units of `text`. */
  highlights: [number, number][];
  /** Their places are those of the whole text. */
  passages: Passage[];
  thumbnail: string | null;
  payload: Record<string, unknown>;
}

export interface SearchAnswer {
  side: SideInfo;
  pipeline: string;
  warnings: string[];
  milliseconds: number;
  stages: Stage[];
  hits: Hit[];
}

/** The document in one slot: its place, and whether that is among the candidates which the pipeline reads. */
export interface Leg {
  slot: string;
  rank: number | null;
  candidate: boolean;
  candidates: number;
  score: number | null;
}

export interface LocateAnswer {
  sentence: string;
  rank: number | null;
  score: number | null;
  exists: boolean;
  legs: Leg[];
  parts: Part[];
  /** Of a score that one stage gave as a whole: the parts of the score before that stage. */
  before: Part[];
  document?: Omit<Hit, "score" | "highlights" | "passages">;
}

export interface Snippets {
  yaml: string;
  python: string;
  curl: string;
  qdrant: { method: string; path: string; body: unknown };
  notes: string[];
}

export interface RelevantDocument {
  id: string;
  name: string;
  grade: number;
}

/** What is judged of a query; `judged`, the set, is null where nothing is. */
export interface Grades {
  judged: string | null;
  query: string | null;
  /** By document, of those that the collection holds. */
  grades: Record<string, number>;
  /** The best first, 100 at most. */
  relevant: RelevantDocument[];
  /** Relevant documents that are not named. */
  more: number;
  /** Relevant documents that the collection does not hold. */
  absent: number;
}
