/** The evaluation that the views Evaluate and Queries share: what is compared with what, and the job that does it. */
import type { JobHandle } from "./jobs";
import { useJob } from "./jobs";
import { NONE, sideOf, sidesOf } from "./question";
import { setParams, useParam, useRoute } from "./state";
import { useStudio } from "./studio";
import type { EvaluationResult } from "./answers";

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
  handle: JobHandle<EvaluationResult>;
  start: () => void;
  /** Why it cannot start; empty where it can. */
  obstacle: string;
}

export const METRICS = ["nDCG@10", "MRR@10", "Recall@10", "Recall@100", "P@10", "MAP"];

/** The two sides of the hash, whether they can be compared, and what the server is asked. */
export function useSides() {
  const { collection } = useStudio();
  const { params } = useRoute();
  const { a, b } = sidesOf(collection, params);
  const obstacle = sidesObstacle(a, b, collection.tenants && !params.tenant);
  return {
    a,
    b,
    setA: (side: string) => setParams({ a: side }),
    setB: (side: string) => setParams({ b: side }),
    asked: { sides: [sideOf(a), sideOf(b)], ...(params.tenant ? { tenant: params.tenant } : {}) },
    obstacle,
  };
}

/** The parameters of these sides for a link. An edited config has no id; the hash holds it. */
export function sideParams(a: string, b: string): Record<string, string> {
  return { ...(a === "yaml" ? {} : { a }), ...(b === "yaml" ? {} : { b }) };
}

function sidesObstacle(a: string, b: string, tenantMissing: boolean): string {
  if (b === NONE) return "Choose a second side to compare with.";
  if (a === b) return "Choose two different sides: a side against itself differs in nothing.";
  return tenantMissing ? "Say whose documents are searched: the tenant." : "";
}

export function useEvaluation(): EvaluationSetup {
  const { info, collection } = useStudio();
  const [judged, setJudged] = useParam("judged", info.judged[0]?.name ?? "");
  const [metric, setMetric] = useParam("metric", METRICS[0]);
  const [sliceText, setSliceText] = useParam("slices", "length");
  const sides = useSides();
  const handle = useJob<EvaluationResult>("evaluate", collection.name);
  const slices = sliceText.split(",").filter((name) => name && name !== "none");
  const start = () => handle.start({ judged, metric, slices, ...sides.asked });
  const setSlices = (names: readonly string[]) => setSliceText(names.join(",") || "none");
  return { judged, setJudged, metric, setMetric, slices, setSlices, ...sides, handle, start };
}
