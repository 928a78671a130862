/** One search box, two sides, and why they differ. */
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";

import { milliseconds, plural } from "../format";
import { useShortcuts } from "../keys";
import { AbsentSides } from "../parts/absentsides";
import { announce } from "../parts/announce";
import { Controls } from "../parts/controls";
import { Judged, useGrades } from "../parts/judged";
import { Empty, Notice } from "../parts/notice";
import { Results } from "../parts/results";
import { Snippets } from "../parts/snippets";
import { overlapOf, type Group } from "../parts/venn";
import { Where } from "../parts/where";
import { Why } from "../parts/why";
import { NONE, sideOf, useAsked, type Asked } from "../question";
import { useRequest, type Answer } from "../request";
import { explain, route, setParams, useParam, useRoute } from "../state";
import { useStudio } from "../studio";
import type { Found } from "../answers";

const PAUSE = 120; // milliseconds after the last key

function useSearch({ question }: Asked, side: string): Answer<Found> {
  const body = question && side !== NONE ? { ...question, side: sideOf(side) } : null;
  return useRequest<Found>(body ? (api) => api.post("/search", body) : null, [body], PAUSE);
}

export function Compare() {
  const { collection } = useStudio();
  const { params } = useRoute();
  const now = useAsked();
  const asked = useMemo(() => now, [JSON.stringify(now)]);
  const [lit, setLit] = useState<Group | null>(null);
  const [code] = useParam("code");
  const open = params.doc || null;
  const a = useSearch(asked, asked.a);
  const b = useSearch(asked, asked.b);
  const two = asked.b !== NONE;
  const known = useGrades(asked);
  const grades = a.loading || (two && b.loading) ? null : known; // the hits may be those of the query before
  const columns = useRef<HTMLDivElement>(null);

  const toggle = useCallback((id: string) => explain(route.get().params.doc === id ? "" : id), []);
  const toFirst = useCallback(() => focusHit(columns.current, null), []);
  const toggleCode = useCallback(() => setParams({ code: route.get().params.code ? "" : "yaml" }), []);
  const close = useCallback(() => {
    const { doc = null } = route.get().params;
    explain("");
    focusHit(columns.current, doc);
  }, []);
  useHitKeys(columns, open, close);
  useSaid(a, two ? b : null);
  const tenantMissing = collection.tenants && !params.tenant;

  return (
    <>
      <h1 class="visually-hidden">Compare two sides</h1>
      <Controls onDown={toFirst} code={code} onCode={toggleCode} />
      {code && <Snippets asked={asked} />}
      <div class={open ? "with-why" : ""}>
        <div class="stack results">
          <AbsentSides a={asked.a} b={asked.b} />
          {tenantMissing && <Notice>Documents of this collection belong to tenants: name one above to search.</Notice>}
          {!asked.question && !tenantMissing && (
            <Empty title="Type a query">
              Both sides answer as you type. <kbd>/</kbd> goes to the box, <kbd>↓</kbd> to the hits, <kbd>Enter</kbd> explains one, <kbd>?</kbd> shows all keys.
            </Empty>
          )}
          {asked.question && <Where a={a.data} b={two ? b.data : null} />}
          {asked.question && grades && <Judged asked={asked} grades={grades} a={a.data} b={b.data} />}
          {asked.question && (
            <Results asked={asked} a={a} b={b} grades={grades} lit={lit} onLit={setLit} open={open} onOpen={toggle} columns={columns} />
          )}
        </div>
        {open && <Why id={open} asked={asked} a={a.data} b={b.data} onClose={close} />}
      </div>
    </>
  );
}

function titlesIn(columns: HTMLElement | null, side: string): HTMLButtonElement[] {
  return [...(columns?.querySelectorAll<HTMLButtonElement>(`[data-column=${side}] .hit-title`) ?? [])];
}

/** Focuses a document's title in A, else in B, else the first hit. */
function focusHit(columns: HTMLElement | null, id: string | null): void {
  const all = [...titlesIn(columns, "a"), ...titlesIn(columns, "b")];
  const found = all.find((title) => title.closest<HTMLElement>("[data-hit]")?.dataset.hit === id);
  (found ?? all[0])?.focus();
}

/** Arrows go through the hits: up and down in a column, left and right to the same document in the other. */
function useHitKeys(columns: { current: HTMLDivElement | null }, open: string | null, close: () => void): void {
  const move = (event: KeyboardEvent) => {
    const title = (document.activeElement as HTMLElement | null)?.closest<HTMLButtonElement>(".hit-title");
    const side = title?.closest<HTMLElement>("[data-column]")?.dataset.column;
    if (!title || !side) return event.key === "ArrowDown" && !open ? focusHit(columns.current, null) : undefined;
    const own = titlesIn(columns.current, side);
    const at = own.indexOf(title);
    if (event.key === "ArrowDown") return own[Math.min(at + 1, own.length - 1)]?.focus();
    if (event.key === "ArrowUp") return at === 0 ? document.getElementById("query")?.focus() : own[at - 1]?.focus();
    const target = event.key === "ArrowLeft" ? "a" : "b";
    if (target === side) return undefined;
    const others = titlesIn(columns.current, target);
    const id = title.closest<HTMLElement>("[data-hit]")?.dataset.hit;
    return (others.find((one) => one.closest<HTMLElement>("[data-hit]")?.dataset.hit === id) ?? others[Math.min(at, others.length - 1)])?.focus();
  };
  useShortcuts(
    [
      { keys: "ArrowDown", label: "Next hit", run: move },
      { keys: "ArrowUp", label: "Hit above; from the first, the search box", run: move },
      { keys: "ArrowLeft", label: "Same document in A", run: move },
      { keys: "ArrowRight", label: "Same document in B", run: move },
      { keys: "Enter", label: "Explain the hit" },
      ...(open ? [{ keys: "Escape", label: "Close the explanation", run: close, typing: true }] : []),
    ],
    [open],
  );
}

/** Says once both have answered how they agree. */
function useSaid(a: Answer<Found>, b: Answer<Found> | null): void {
  useEffect(() => {
    if (a.loading || b?.loading || !a.data) return;
    const first = `${plural(a.data.hits.length, "hit")} in ${milliseconds(a.data.milliseconds)}`;
    if (!b?.data) return announce(`${first}.`);
    const { both } = overlapOf(
      a.data.hits.map((hit) => hit.id),
      b.data.hits.map((hit) => hit.id),
    );
    announce(`A: ${first}. B: ${plural(b.data.hits.length, "hit")} in ${milliseconds(b.data.milliseconds)}. ${both.length} in both.`);
  }, [a.data, b?.data, a.loading, b?.loading]);
}
