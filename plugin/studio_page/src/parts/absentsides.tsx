/** Says of each side that a link names and the collection does not have why that may be, and what is asked instead. */
import { useRoute } from "../state";
import { sideLabel, useStudio } from "../studio";
import { Notice } from "./notice";

export function AbsentSides({ a, b }: { a: string; b: string }) {
  const { collection } = useStudio();
  const { params } = useRoute();
  const absent = (["a", "b"] as const).flatMap((name) => {
    const wanted = params[name];
    const asked = { a, b }[name];
    const isLive = asked.startsWith("slot:") && collection.slots.some((slot) => asked === `slot:${slot.name}` && wanted === `generation:${slot.vector}`);
    return wanted && wanted !== asked && !isLive ? [{ name, wanted, asked }] : [];
  });
  return (
    <>
      {absent.map(({ name, wanted, asked }) => (
        <Notice key={name} kind="warning">
          {whatItWas(wanted)} {name.toUpperCase()} is “{sideLabel(collection, asked)}” instead.
        </Notice>
      ))}
    </>
  );
}

/** Sides of a swap come and go, so a link to one may have been right. */
function whatItWas(side: string): string {
  if (side === "state:building") return "This link asks the pipeline as it will be after a swap (“state:building”), but no swap is under way.";
  if (side === "state:kept") return "This link asks the pipeline as it was before a cut-over (“state:kept”), but no earlier one is kept any more.";
  if (side.startsWith("generation:")) return `This link asks the vectors “${side.slice("generation:".length)}” of a swap, which is not under way or is finished.`;
  return `This link names the side “${side}”, which the collection does not have.`;
}
