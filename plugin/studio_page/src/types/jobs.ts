/** Long work that the server does in the background. */

export type JobKind = "evaluate" | "tune" | "health";
export type JobState = "waiting" | "running" | "done" | "failed" | "cancelled";

export interface Job<Result> {
  id: string;
  kind: JobKind;
  state: JobState;
  /** Where it is, in words. */
  sentence: string;
  stage: string;
  done: number;
  total: number | null;
  seconds_left: number | null;
  result: Result | null;
  error: { message: string } | null;
}
