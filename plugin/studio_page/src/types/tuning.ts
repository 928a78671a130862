/** What the job "tune" answers: pipelines that were tried, and the change it recommends. */

export interface Trial {
  label: string;
  quality: number;
  low: number;
  high: number;
  milliseconds: number;
  /** Whether no trial is both better and faster. */
  front: boolean;
  chosen: boolean;
  /** Whether it is the pipeline that answers now. */
  present: boolean;
  /** The change of the config for it, as a unified diff; empty where none was written. */
  diff: string;
}

export interface Tuning {
  verdict: string;
  /** Whether the recommended pipeline is shown to be better than the present one. */
  passed: boolean;
  gains: string[];
  trials: Trial[];
  /** Whether `patch` can apply the diffs to the file. */
  patch: boolean;
  /** The change of the config that is recommended; empty where the present pipeline stays. */
  diff: string;
  /** The name of the config file; empty where the collection was opened without one. */
  file: string;
  remarks: string[];
}
