/** What GET /studio/api/state says. */
export interface SideInfo {
  id: string;
  label: string;
  kind: string;
}

export interface SlotInfo {
  name: string;
  kind: string;
  of: string;
  generation: number | string | null;
  /** Qdrant's name of the live vector. */
  vector: string | null;
}

export interface FieldInfo {
  key: string;
  type: string;
  indexed: boolean;
}

export interface CollectionInfo {
  name: string;
  documents: number | null;
  sides: SideInfo[];
  slots: SlotInfo[];
  tenants: boolean;
  accepts: string[];
  fields: FieldInfo[];
  limit: number;
  /** Why it cannot be asked, and what to do. */
  error: string | null;
}

export interface JudgedInfo {
  name: string;
  queries?: number;
  /** How many of the queries have judgements. */
  judged?: number;
  /** Why the set cannot be read. */
  error?: string | null;
}

export interface StudioInfo {
  version: string;
  key_required: boolean;
  may: { write: boolean; judge: boolean };
  judged: JudgedInfo[];
  collections: CollectionInfo[];
}

/** What is asked: the id of a side of /state, or a search section of a config. */
export type Side = string | { yaml: string };
