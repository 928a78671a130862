/** How well a collection is: quick facts, and what the job "health" measures. */

export interface SlotHealth {
  name: string;
  adapter: string;
  fingerprint: string;
  canaries: string;
  /** The share of tokens that the encoder does not read, 0 to 1; null where it is not known. */
  unread: number | null;
  missing: number;
  bytes: number | null;
}

export interface Health {
  slots: SlotHealth[];
  sentences: string[];
}

export interface SlotRecall {
  name: string;
  /** The share of the exact first hits that the approximate search finds, 0 to 1. */
  recall: number | null;
  low?: number | null;
  high?: number | null;
  text?: string;
}

export interface RecallReport {
  verdict?: string;
  slots: SlotRecall[];
}
