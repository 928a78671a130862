/** What every view knows: the server's /state and the collection that is chosen. */
import { createContext } from "preact";
import { useContext } from "preact/hooks";

import type { CollectionFacts, State } from "./answers";

export interface Studio {
  info: State;
  collection: CollectionFacts;
  /** Reads /state again, for instance after a rollback. */
  reload: () => void;
}

export const StudioContext = createContext<Studio | null>(null);

export function useStudio(): Studio {
  const studio = useContext(StudioContext);
  if (!studio) throw new Error("useStudio is for views, which the shell renders once /state is known");
  return studio;
}

/** The label of a side: as /state names it, or "edited config" for one that was written in the page. */
export function sideLabel(collection: CollectionFacts, side: string): string {
  if (side.startsWith("yaml:")) return "edited config";
  return collection.sides.find(({ id }) => id === side)?.label ?? side;
}
