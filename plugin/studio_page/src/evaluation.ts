/** The evaluation that the views Evaluate and Queries share: what is compared with what, and the job that does it. */
import type { JobHandle } from "./jobs";
import { useJob } from "./jobs";
import { useParam } from "./state";
import { useStudio } from "./studio";
import type { Evaluation } from "./types/evaluation";
import type { Side } from "./types/studio";

export interface EvaluationSetup {
  judged: string;
  setJudged: (value: string) => void;
  a: string;
  setA: (value: string) => void;
  b: string;
  setB: (value: string) => void;
  metric: string;
  setMetric: (value: string) => void;
  slices: readonly string[];
  setSlices: (value: readonly string[]) => void;
  handle: JobHandle<Evaluation>;
  start: () => void;
  /** Why it cannot start; empty where it can. */
  obstacle: string;
}

export const METRICS = ["nDCG@10", "MRR@10", "Recall@10", "Recall@100", "P@10", "MAP"];

/** A side of the hash as the server takes it: its id, or the search section that was written in the page. */
export function askedSide(side: string): Side {
  return side.startsWith("yaml:") ? { yaml: side.slice("yaml:".length) } : side;
}

export function useSides() {
  const { collection } = useStudio();
  const [a, setA] = useParam("a", collection.sides[0]?.id ?? "");
  const [b, setB] = useParam("b", collection.sides[1]?.id ?? collection.sides[0]?.id ?? "");
  return { a, setA, b, setB };
}

export function useEvaluation(): EvaluationSetup {
  const { info, collection } = useStudio();
  const [judged, setJudged] = useParam("judged", info.judged[0]?.name ?? "");
  const [metric, setMetric] = useParam("metric", METRICS[0]);
  const [sliceText, setSliceText] = useParam("slices", "length");
  const sides = useSides();
  const handle = useJob<Evaluation>("evaluate", collection.name);
  const slices = sliceText.split(",").filter((name) => name && name !== "none");
  const start = () =>
    handle.start({ judged, sides: [askedSide(sides.a), askedSide(sides.b)], metric, slices });
  const obstacle = sides.a === sides.b ? "Choose two different sides: a side against itself differs in nothing." : "";
  const setSlices = (names: readonly string[]) => setSliceText(names.join(",") || "none");
  return { judged, setJudged, metric, setMetric, slices, setSlices, ...sides, handle, start, obstacle };
}
