/** A change of encoders: its steps, and the generations of vectors that there are. */

export type StepName = "plan" | "back-fill" | "gate" | "cut-over";
export type StepState = "done" | "running" | "waiting" | "failed";

export interface SwapStep {
  name: StepName;
  state: StepState;
  text: string;
  done?: number | null;
  total?: number | null;
  /** Documents a second. */
  rate?: number | null;
  seconds_left?: number | null;
}

export interface Generation {
  slot: string;
  generation: number;
  adapter: string;
  state: string;
  vectors: number;
  /** The side that searches it; null where nothing can. */
  side: string | null;
}

export interface Swap {
  state: string;
  sentence: string;
  steps: SwapStep[];
  generations: Generation[];
  may_roll_back: boolean;
  reason: string;
}
