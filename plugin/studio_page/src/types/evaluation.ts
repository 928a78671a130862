/** What the job "evaluate" answers: two sides compared over judged queries. */

export interface Interval {
  mean: number;
  low: number;
  high: number;
}

export interface EvaluatedSide {
  id: string;
  label: string;
  mean: number;
  /** The interval of the mean; null for fewer than two queries. */
  low: number | null;
  high: number | null;
  milliseconds: number | null;
  /** By slot, the number of the generation whose vectors were asked. */
  generations: Readonly<Record<string, number>>;
}

export interface Difference extends Interval {
  wins: number;
  ties: number;
  losses: number;
  p: number;
  /** How `p` was computed. */
  test: string;
}

export interface QueryDifference {
  id: string;
  text: string;
  a: number;
  b: number;
  /** b minus a. */
  difference: number;
  /** The share of the first hits that both sides have in common, 0 to 1. */
  overlap: number;
}

export interface SliceDifference {
  name: string;
  value: string;
  queries: number;
  difference: number;
  low: number;
  high: number;
}

export interface Evaluation {
  metric: string;
  verdict: string;
  remarks: string[];
  sides: EvaluatedSide[];
  /** Null where a single query was judged: nothing can be tested then. */
  difference: Difference | null;
  queries: QueryDifference[];
  slices: SliceDifference[];
}
