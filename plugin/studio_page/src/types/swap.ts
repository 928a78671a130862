/** A change of encoders: its steps, and the generations of vectors that there are. */

export type StepName = "plan" | "back-fill" | "gate" | "cut-over";
export type StepState = "done" | "running" | "waiting" | "failed" | "undone";

export interface SwapStep {
  name: StepName;
  state: StepState;
  text: string;
  done: number | null;
  total: number | null;
  /** Documents a second. */
  rate: number | null;
  seconds_left: number | null;
}

export interface Generation {
  slot: string;
  generation: number;
  adapter: string;
  model: string;
  /** The options in which it differs from the slot's other generation. */
  options: string[];
  state: string;
  vectors: number;
  /** Who makes the queries instead, and why; empty where the encoder does it itself. */
  asking: string;
  /** The side that searches it; null where nothing can. */
  side: string | null;
}

export interface SwapEvent {
  what: string;
  when: string;
  by: string;
  why: string;
  gate: string;
}

/** That the config file names other encoders than those that are live, and the lines that it should have. */
export interface StaleConfig {
  sentence: string;
  restore: string;
}

export interface Swap {
  state: string;
  sentence: string;
  steps: SwapStep[];
  generations: Generation[];
  history: SwapEvent[];
  may_roll_back: boolean;
  /** Why it may not be rolled back. */
  reason: string;
  /** What a rollback would do. */
  rollback: string;
  /** Whether the last cut-over was rolled back: a rollback goes forward again. */
  forward: boolean;
  config: StaleConfig | null;
  /** Names the state that was shown: a rollback of another state is refused. */
  seen: string;
}
