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
  calls?: number;
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
  title: string;
  text: string;
  /** Begin and end of matched words, in code points of the text. */
  highlights: [number, number][];
  passages: Passage[];
  thumbnail: string | null;
  payload: Record<string, unknown>;
  parts: Part[];
}

export interface SearchAnswer {
  side: SideInfo | string;
  milliseconds: number;
  stages: Stage[];
  hits: Hit[];
}

export interface Leg {
  slot: string;
  rank: number | null;
  score: number | null;
}

export interface LocateAnswer {
  sentence: string;
  rank: number | null;
  score: number | null;
  exists: boolean;
  legs: Leg[];
  parts: Part[];
}

export interface Snippets {
  yaml: string;
  python: string;
  curl: string;
  qdrant: string;
}
