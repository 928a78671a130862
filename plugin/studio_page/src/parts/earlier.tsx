import { useRequest } from "../request";
import { useStudio } from "../studio";
import type { CollectionFacts, EvaluationResult, State } from "../answers";
import { Notice } from "./notice";

/** Says of an evaluation that it asked other vectors than those that are live now, as after a cut-over or a rollback. */
export function Earlier({ evaluation }: { evaluation: EvaluationResult }) {
  const { collection } = useStudio();
  const read = useRequest<State>((api) => api.get("/state"), []); // another process may have swapped
  const now = read.data?.collections.find(({ name, error }) => name === collection.name && !error) ?? collection;
  const changed = changedSince(evaluation, now);
  if (changed.length === 0) return null;
  return (
    <Notice kind="warning">
      <p>This evaluation is not of the vectors that are live now. It asked {changed.join(" and ")}. Evaluate again to measure what is live.</p>
    </Notice>
  );
}

/** The slots of which another generation is live. The sides of a swap name theirs, so they are left out. */
function changedSince({ sides }: EvaluationResult, { slots }: CollectionFacts): string[] {
  const live = new Map(slots.map(({ name, generation }) => [name, generation]));
  const ofLive = sides.filter(({ id }) => !/^(state|generation):/.test(id));
  const sentences = ofLive.flatMap(({ generations }) =>
    Object.entries(generations).flatMap(([slot, generation]) => {
      const now = live.get(slot);
      if (now === generation) return [];
      return [`generation ${generation} of ${slot} (${now == null ? "now there is no such slot" : `now generation ${now} is live`})`];
    }),
  );
  return [...new Set(sentences)];
}
