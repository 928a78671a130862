/** How well a collection is: quick facts, and what the job "health" measures. */
import type { StaleConfig } from "./swap";

export interface SlotHealth {
  name: string;
  role: string;
  vector: string;
  adapter: string;
  options: Record<string, unknown>;
  fingerprint: string;
  canaries: string;
  /** The share of tokens that the encoder does not read, 0 to 1; null where it was not counted. */
  unread: number | null;
  unread_sentence: string;
  /** Whether the unread tokens were counted of a sample of the documents. */
  sampled: boolean;
  points: number;
  missing: number;
  bytes: number | null;
  /** Whether `bytes` is computed rather than measured. */
  estimated: boolean;
}

export interface Health {
  documents: number;
  bytes: number | null;
  slots: SlotHealth[];
  sentences: string[];
  config: StaleConfig | null;
}

export interface SlotCheck {
  name: string;
  canary: { lowest: number } | null;
  /** The share of the exact first hits that the approximate search finds, 0 to 1; null where nothing is approximate. */
  recall: number | null;
  at: number;
  queries: number;
  attention: boolean;
  text: string;
}

export interface HealthCheck {
  verdict: string;
  slots: SlotCheck[];
  queries: number;
}
