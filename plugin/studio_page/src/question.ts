/** What is asked, read from the hash: words, picture, filters, tenant, limit and the two sides. */
import { createStore, useStore } from "./store";
import { useRoute } from "./state";
import { useStudio } from "./studio";
import type { CollectionFacts, FieldFacts, Question } from "./answers";

/** The picture of a query, as a data URL. It is too long for a link, so it lives in the page. */
export const picture = createStore<string | null>(null);

/** As much of Qdrant's filters as the page writes. */
interface Condition {
  key: string;
  match?: { value: string | number | boolean };
  range?: { gte?: number; lte?: number };
}

type Filter = Partial<Record<"must" | "must_not", Condition[]>>;
export type Side = NonNullable<Question["side"]>;

export type Operator = "is" | "not" | "from" | "to";
export type FilterRow = [key: string, operator: Operator, value: string];

export const NONE = "none";
export const YAML = "yaml:";

export function readRows(text: string): FilterRow[] {
  try {
    const rows: unknown = JSON.parse(text || "[]");
    if (!Array.isArray(rows)) return [];
    return rows.filter((row): row is FilterRow => Array.isArray(row) && row.length === 3 && row.every((part) => typeof part === "string"));
  } catch {
    return []; // a link that somebody edited
  }
}

function typedValue(text: string, type: string | undefined): string | number | boolean {
  if (type === "bool") return text === "true";
  const isNumber = text.trim() !== "" && Number.isFinite(Number(text));
  if (isNumber && (type === "integer" || type === "float" || type === undefined)) return Number(text);
  return text;
}

function condition([key, operator, value]: FilterRow, fields: readonly FieldFacts[]): Condition {
  if (operator === "from") return { key, range: { gte: Number(value) } };
  if (operator === "to") return { key, range: { lte: Number(value) } };
  return { key, match: { value: typedValue(value, fields.find((field) => field.key === key)?.type) } };
}

/** Qdrant's filter JSON of the rows that are complete. */
export function filterOf(rows: readonly FilterRow[], fields: readonly FieldFacts[]): Filter | undefined {
  const whole = rows.filter(([key, operator, value]) => key && value && !((operator === "from" || operator === "to") && Number.isNaN(Number(value))));
  if (!whole.length) return undefined;
  const must = whole.filter(([, operator]) => operator !== "not").map((row) => condition(row, fields));
  const mustNot = whole.filter(([, operator]) => operator === "not").map((row) => condition(row, fields));
  return { ...(must.length ? { must } : {}), ...(mustNot.length ? { must_not: mustNot } : {}) };
}

export function sideOf(id: string): Side {
  return id.startsWith(YAML) ? { yaml: id.slice(YAML.length) } : id;
}

/** The sides that are compared: those of the hash, else the whole pipeline beside what the server names next, unless both are one slot alone. */
export function sidesOf(collection: CollectionFacts, params: Readonly<Record<string, string>>): { a: string; b: string } {
  const known = (id: string | undefined) => {
    if (id && (id === NONE || id.startsWith(YAML) || collection.sides.some((side) => side.id === id))) return id;
    // A generation that a cut-over or a rollback has made live is asked as its slot.
    const live = collection.slots.find((slot) => id === `generation:${slot.vector}`);
    return live && `slot:${live.name}`;
  };
  const a = known(params.a) ?? collection.sides[0]?.id ?? "pipeline";
  const isOneSlot = collection.slots.length === 1 && collection.sides.length === 2; // else there is a stage or a generation to compare with
  return { a, b: known(params.b) ?? (isOneSlot ? NONE : collection.sides[1]?.id) ?? NONE };
}

/** What POST /locate is asked for one document. */
export function locateBody(question: Question, side: string, id: string) {
  const { limit: _, ...asked } = { ...question, side: sideOf(side), id };
  return asked;
}

export interface Asked {
  /** Null while there is nothing to ask. */
  question: Question | null;
  a: string;
  b: string;
}

/** What the hash asks of the collection that is shown. */
export function useAsked(): Asked {
  const { collection } = useStudio();
  const { params } = useRoute();
  const image = useStore(picture);
  const text = params.q ?? "";
  const sides = sidesOf(collection, params);
  const tenantMissing = collection.tenants && !params.tenant;
  if ((!text.trim() && !image) || tenantMissing) return { question: null, ...sides };
  const filter = filterOf(readRows(params.f ?? ""), collection.fields);
  const question: Question = {
    collection: collection.name,
    query: image ? { text, media: { image } } : text,
    limit: Number(params.limit) || collection.limit,
    ...(filter ? { filter } : {}),
    ...(params.tenant ? { tenant: params.tenant } : {}),
  };
  return { question, ...sides };
}
