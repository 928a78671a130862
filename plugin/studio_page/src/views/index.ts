/** The views in the order of the navigation. A view is a component without props: it reads `useStudio` and the hash. */
import type { ComponentType } from "preact";

import { ApiView } from "./api";
import { Collection } from "./collection";
import { Compare } from "./compare";
import { Evaluate } from "./evaluate";
import { Judge } from "./judge";
import { Queries } from "./queries";

export interface View {
  name: string;
  label: string;
  /** Second key after "g". */
  key: string;
  /** One sentence: what it is for. */
  purpose: string;
  component: ComponentType;
  /** Shown without a collection too: it does not call `useStudio`. */
  alone?: true;
}

export const VIEWS: readonly View[] = [
  { name: "compare", label: "Compare", key: "c", purpose: "Search with two sides at once and see why they differ.", component: Compare },
  { name: "queries", label: "Queries", key: "q", purpose: "The queries of an evaluation, those that differ most first.", component: Queries },
  { name: "evaluate", label: "Evaluate", key: "e", purpose: "Which side is better, and by how much.", component: Evaluate },
  { name: "judge", label: "Judge", key: "j", purpose: "Grade answers without knowing which side gave them.", component: Judge },
  { name: "collection", label: "Collection", key: "s", purpose: "How far an encoder swap is, who made each vector, and whether it is whole.", component: Collection },
  { name: "docs", label: "API", key: "a", purpose: "The service's HTTP interface.", component: ApiView, alone: true },
];
