/** One search box, two sides, and why they differ. */
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";

import { addedToExport, exported, isHeld } from "../api";
import { milliseconds, plural, sentence } from "../format";
import { useShortcuts } from "../keys";
import { announce, toast } from "../parts/announce";
import { copyText } from "../parts/copy";
import { Select, TextField } from "../parts/field";
import { Filters } from "../parts/filters";
import { HitList, titleOf } from "../parts/hits";
import { Empty, Failure, Loading, Notice } from "../parts/notice";
import { Ribbons } from "../parts/ribbons";
import { SearchBar } from "../parts/searchbar";
import { Sides } from "../parts/sides";
import { Snippets } from "../parts/snippets";
import { Stages } from "../parts/stages";
import { overlapOf, Venn, type Group, type Overlap } from "../parts/venn";
import { Why } from "../parts/why";
import { locateBody, NONE, picture, readRows, sideOf, useAsked, type Asked } from "../question";
import { useRequest, type Answer } from "../request";
import { route, setParams, useParam, useRoute, writeAddress } from "../state";
import { useStore } from "../store";
import { sideLabel, useStudio } from "../studio";
import type { SearchAnswer } from "../types/search";

const PAUSE = 120; // milliseconds after the last key
const LIMITS = [10, 20, 50, 100];

function useSearch({ question }: Asked, side: string): Answer<SearchAnswer> {
  const body = question && side !== NONE ? { ...question, side: sideOf(side) } : null;
  return useRequest<SearchAnswer>(body ? (api) => api.post("/search", body) : null, [body], PAUSE);
}

export function Compare() {
  const { collection } = useStudio();
  const { params } = useRoute();
  const asked = useAsked();
  const [lit, setLit] = useState<Group | null>(null);
  const [pointed, setPointed] = useState<string | null>(null);
  const [code, setCode] = useParam("code");
  const open = params.doc || null;
  const a = useSearch(asked, asked.a);
  const b = useSearch(asked, asked.b);
  const two = asked.b !== NONE;
  const columns = useRef<HTMLDivElement>(null);

  const toggle = useCallback((id: string) => {
    setParams({ doc: route.get().params.doc === id ? "" : id });
  }, []);
  const explains = (id: string) => asked.question !== null && isHeld("/locate", locateBody(asked.question, asked.a, id));
  const close = () => {
    setParams({ doc: "" });
    focusHit(columns.current, open);
  };
  useExplainedExport(asked, a.data, two ? b.data : null);
  useHitKeys(columns, open, close);
  useSaid(a, two ? b : null);

  return (
    <>
      <h1 class="visually-hidden">Compare two sides</h1>
      <Controls onDown={() => focusHit(columns.current, null)} code={code} onCode={() => setCode(code ? "" : "yaml")} />
      {code && <Snippets asked={asked} />}
      <div class={open ? "with-why" : ""}>
        <div class="stack results">
          {(["a", "b"] as const).map((name) => {
            const wanted = params[name];
            return (
              wanted &&
              wanted !== asked[name] && (
                <Notice key={name} kind="warning">
                  This link names the side “{wanted}”, which the collection does not have (now). Shown is “{sideLabel(collection, asked[name])}”.
                </Notice>
              )
            );
          })}
          {collection.tenants && !params.tenant && <Notice>Documents of this collection belong to tenants: name one above to search.</Notice>}
          {!asked.question && !(collection.tenants && !params.tenant) && (
            <Empty title="Type a query">
              Both sides answer as you type. <kbd>/</kbd> goes to the box, <kbd>↓</kbd> to the hits, <kbd>Enter</kbd> explains one, <kbd>?</kbd> shows all keys.
            </Empty>
          )}
          {asked.question && !exported && <Where answers={[a.data, b.data]} />}
          {asked.question && (
            <Results
              asked={asked}
              a={a}
              b={b}
              lit={lit}
              onLit={setLit}
              open={open}
              onOpen={toggle}
              explains={explains}
              pointed={pointed ?? open}
              onPoint={setPointed}
              columns={columns}
            />
          )}
        </div>
        {open && <Why id={open} asked={asked} answers={{ a: a.data, b: b.data }} onClose={close} />}
      </div>
    </>
  );
}

function Controls({ onDown, code, onCode }: { onDown: () => void; code: string; onCode: () => void }) {
  const { collection } = useStudio();
  const { params } = useRoute();
  const [tenant, setTenant] = useParam("tenant");
  const [limit, setLimit] = useParam("limit", String(collection.limit));
  const rows = readRows(params.f ?? "");
  const [filtering, setFiltering] = useState(rows.length > 0);
  const image = useStore(picture);
  const limits = [...new Set([collection.limit, ...LIMITS])].sort((one, two) => one - two);
  const copyLink = () => {
    writeAddress();
    copyText(location.href).then(
      () => toast(image ? "Link copied. It holds all but the picture." : "Link copied."),
      () => toast("Copy the link from the address bar: the browser does not let the page do it.", "error"),
    );
  };
  return (
    <section class="card stack" aria-label="Question">
      <SearchBar onDown={onDown} />
      <fieldset class="controls" disabled={exported !== null}>
        <legend class="visually-hidden">Sides and options</legend>
        <Sides />
        {collection.tenants && <TextField label="Tenant" value={tenant} onInput={setTenant} />}
        <Select label="Hits" value={limit} choices={limits.map((one) => ({ value: String(one), label: String(one) }))} onChange={setLimit} />
        <div class="row control-buttons">
          <button class="button" type="button" aria-expanded={filtering} onClick={() => setFiltering(!filtering)}>
            Filters{rows.length > 0 && ` (${rows.length})`}
          </button>
          <button class="button" type="button" aria-expanded={code !== ""} onClick={onCode}>
            Code
          </button>
          <button class="button" type="button" onClick={copyLink}>
            Link
          </button>
        </div>
      </fieldset>
      {filtering && <Filters />}
    </section>
  );
}

interface ResultsProps {
  asked: Asked;
  a: Answer<SearchAnswer>;
  b: Answer<SearchAnswer>;
  lit: Group | null;
  onLit: (group: Group | null) => void;
  open: string | null;
  onOpen: (id: string) => void;
  /** False for hits that an exported page cannot explain. */
  explains: (id: string) => boolean;
  pointed: string | null;
  onPoint: (id: string | null) => void;
  columns: { current: HTMLDivElement | null };
}

interface Pair {
  ranksA: ReadonlyMap<string, number>;
  ranksB: ReadonlyMap<string, number>;
  overlap: Overlap;
  names: ReadonlyMap<string, [number, number, string]>;
}

function ranksOf(answer: SearchAnswer | null): Map<string, number> {
  return new Map(answer?.hits.map((hit, at) => [hit.id, at + 1]));
}

function pairOf(a: SearchAnswer | null, b: SearchAnswer | null): Pair | null {
  if (!a || !b) return null;
  const [ranksA, ranksB] = [ranksOf(a), ranksOf(b)];
  const named = a.hits.map((hit): [string, [number, number, string]] => [hit.id, [ranksA.get(hit.id) ?? 0, ranksB.get(hit.id) ?? 0, titleOf(hit)]]);
  return { ranksA, ranksB, overlap: overlapOf([...ranksA.keys()], [...ranksB.keys()]), names: new Map(named) };
}

function Results({ asked, a, b, lit, onLit, open, onOpen, explains, pointed, onPoint, columns }: ResultsProps) {
  const two = asked.b !== NONE;
  const pair = useMemo(() => pairOf(a.data, b.data), [a.data, b.data]);
  // While one side has answered and the other has not, the two lists belong to different queries: nothing joins them.
  const joined = two && a.loading === b.loading ? pair : null;
  const last = useRef<Pair | null>(null);
  if (joined) last.current = joined;
  const overlap = (joined ?? last.current)?.overlap;
  const shownB = joined ?? { ranksB: ranksOf(b.data) };
  return (
    <>
      {two && !a.error && !b.error && overlap && overlap.a.length + overlap.both.length + overlap.b.length > 0 && <Venn overlap={overlap} lit={lit} onLit={onLit} />}
      <div class={two ? "columns columns-two" : "columns"} ref={columns} aria-busy={a.loading || b.loading}>
        <Column
          side="a"
          asked={asked.a}
          answer={a}
          others={joined?.ranksB ?? null}
          lit={joined ? lit : null}
          open={open}
          stop={open ?? a.data?.hits[0]?.id ?? null}
          onOpen={onOpen}
          explains={explains}
          onPoint={onPoint}
        />
        {two && (joined ? <Ribbons both={joined.overlap.both} lit={pointed} names={joined.names} /> : <div class="ribbons" />)}
        {two && (
          <Column
            side="b"
            asked={asked.b}
            answer={b}
            others={joined?.ranksA ?? null}
            lit={joined ? lit : null}
            open={open}
            stop={open && shownB.ranksB.has(open) ? open : (b.data?.hits[0]?.id ?? null)}
            onOpen={onOpen}
            explains={explains}
            onPoint={onPoint}
          />
        )}
      </div>
    </>
  );
}

interface ColumnProps {
  side: "a" | "b";
  asked: string;
  answer: Answer<SearchAnswer>;
  others: ReadonlyMap<string, number> | null;
  lit: Group | null;
  open: string | null;
  stop: string | null;
  onOpen: (id: string) => void;
  explains: (id: string) => boolean;
  onPoint: (id: string | null) => void;
}

function Column({ side, asked, answer, others, lit, open, stop, onOpen, explains, onPoint }: ColumnProps) {
  const { collection } = useStudio();
  const label = sideLabel(collection, asked);
  const { data, error, loading, reload } = answer;
  return (
    <section class="column" data-column={side} aria-label={`${side.toUpperCase()}: ${label}`}>
      <header class="column-head">
        <h2>
          <span class="tag" data-side={side}>
            {side.toUpperCase()}
          </span>{" "}
          {label}
        </h2>
        {data && <Stages total={data.milliseconds} stages={data.stages} />}
      </header>
      <div class="column-loading">{loading && <Loading label={`${side.toUpperCase()} is searching`} />}</div>
      {error && <Failure error={error} again={reload} />}
      {data && data.hits.length === 0 && (
        <Empty title="Nothing found">{data.warnings.map(sentence).join(" ") || "No document answers this query."}</Empty>
      )}
      {data && (
        <HitList side={side} label={label} hits={data.hits} others={others} lit={lit} open={open} stop={stop} onOpen={onOpen} explains={explains} onPoint={onPoint} />
      )}
    </section>
  );
}

/** Finds a document by its id, also one that no side shows. */
function Where({ answers }: { answers: readonly (SearchAnswer | null)[] }) {
  const [id, setId] = useState("");
  const known = new Map(answers.flatMap((answer) => answer?.hits.map((hit): [string, string] => [hit.id, titleOf(hit)]) ?? []));
  return (
    <form
      class="where row"
      onSubmit={(event) => {
        event.preventDefault();
        if (id.trim()) setParams({ doc: id.trim() });
      }}
    >
      <label class="row">
        <span class="field-label">Where is document…?</span>
        <input class="input" list="known-ids" value={id} placeholder="its id" onInput={(event) => setId(event.currentTarget.value)} />
      </label>
      <datalist id="known-ids">
        {[...known].map(([one, title]) => (
          <option key={one} value={one}>
            {title}
          </option>
        ))}
      </datalist>
      <button class="button" type="submit" disabled={!id.trim()}>
        Find it
      </button>
    </form>
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

const EXPLAINED = 40; // hits whose explanations an export holds: each costs some requests

/** An export explains the hits that it shows, since it can ask nobody. */
function useExplainedExport({ question, a, b }: Asked, answerA: SearchAnswer | null, answerB: SearchAnswer | null): void {
  useEffect(() => {
    if (!question || exported) return undefined;
    const ids = new Set([...(answerA?.hits ?? []), ...(answerB?.hits ?? [])].map((hit) => hit.id));
    const sides = b === NONE ? [a] : [a, b];
    addedToExport.set(async (api) => {
      for (const id of [...ids].slice(0, EXPLAINED)) {
        for (const side of sides) await api.post("/locate", locateBody(question, side, id)).catch(() => undefined);
      }
    });
    return () => addedToExport.set(null);
  }, [question && JSON.stringify(question), a, b, answerA, answerB]);
}

/** Says once both have answered how they agree. */
function useSaid(a: Answer<SearchAnswer>, b: Answer<SearchAnswer> | null): void {
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
