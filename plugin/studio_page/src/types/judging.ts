/** One document to grade for a query, without which side found it. */

export type Grade = 0 | 1 | 2 | 3;

export interface JudgedQuery {
  id: string;
  text: string;
}

export interface PooledDocument {
  id: string;
  title: string;
  text: string;
  thumbnail: string | null;
}

export interface Judging {
  /** Null once nothing is left to judge. */
  query: JudgedQuery | null;
  document: PooledDocument | null;
  done: number;
  total: number;
  settled: boolean;
  /** The outcome in words, one line for each side. */
  verdict: string;
}
