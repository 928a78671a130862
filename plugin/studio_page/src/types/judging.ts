/** One document to grade for a query, without which side found it. */

export type Grade = 0 | 1 | 2 | 3;

export interface JudgedQuery {
  id: string;
  text: string;
  /** Its place among the queries that may be judged, from 1, and how many there are. */
  number: number;
  of: number;
}

export interface PooledDocument {
  id: string;
  /** Its title, else the first words of its text, else its id. */
  name: string;
  title: string;
  text: string;
  thumbnail: string | null;
  /** Documents of the query that are not judged yet, this one included. */
  left: number;
}

/** While both sides are asked for their answers. */
export interface Preparing {
  id: string;
  state: "waiting" | "running" | "failed" | "cancelled";
  sentence: string;
  done: number;
  total: number | null;
  error: { message: string } | null;
}

export interface Judging {
  id: string;
  /** `settled`: the comparison is decided; `finished`: everything is judged, and nothing is decided. */
  state: "judging" | "settled" | "finished";
  query: JudgedQuery | null;
  document: PooledDocument | null;
  done: number;
  total: number;
  settled: boolean;
  /** How much is judged; once it ends also the outcome, a line for each side. */
  verdict: string;
  /** Of the answer to an undo: the pair, null where there was nothing to undo. */
  undone?: { query: string; document: string } | null;
  /** Where the judgements are; once it ends. */
  folder?: string;
}
