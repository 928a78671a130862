/** The queries of an evaluation, those on which the sides differ most first; each opens the comparison. */
import { useMemo } from "preact/hooks";

import { sideParams, useEvaluation } from "../evaluation";
import { count, fixed, isolated, percent, plural, sentence, signed } from "../format";
import { Earlier } from "../parts/earlier";
import { Segments } from "../parts/field";
import { JobProgress } from "../parts/job";
import { SetupForm } from "../parts/setup";
import { VirtualList } from "../parts/virtual";
import { useWidth } from "../parts/width";
import { go, hashOf, useParam } from "../state";
import type { EvaluationResult, QueryRow } from "../answers";

export function Queries() {
  const setup = useEvaluation();
  const { job } = setup.handle;
  const result = job?.state === "done" ? job.result : null;
  return (
    <>
      <h1 class="visually-hidden">Queries</h1>
      {!result && <p class="muted">An evaluation asks both sides every judged query. Run one, and its queries are listed here.</p>}
      {!result && <SetupForm setup={setup} />}
      <JobProgress handle={setup.handle} what="Evaluation" />
      {job && result && <Earlier key={job.id} evaluation={result} />}
      {result && <List evaluation={result} />}
    </>
  );
}

const ORDERS = [
  { value: "disagreement", label: "Disagreement" },
  { value: "loss", label: "Loss" },
  { value: "gain", label: "Gain" },
];

const HEIGHT = 44;
const NARROW_HEIGHT = 72;

function List({ evaluation }: { evaluation: EvaluationResult }) {
  const [order, setOrder] = useParam("order", "disagreement");
  const [words, setWords] = useParam("words");
  const [job] = useParam("job");
  const [frame, width] = useWidth<HTMLDivElement>();
  const [a, b] = evaluation.sides;
  const rows = useMemo(() => sorted(evaluation.queries, order).filter(holds(words)), [evaluation, order, words]);
  const reach = useMemo(() => Math.max(1e-9, ...spread(evaluation.queries)), [evaluation]);
  if (!a || !b) return null;
  const open = (query: QueryRow) => go("compare", { ...sideParams(a.id, b.id), q: query.text });
  const say = (query: QueryRow) =>
    `${isolated(query.text)}: ${a.label} ${fixed(query.a)}, ${b.label} ${fixed(query.b)}, difference ${signed(query.difference)}, ${percent(query.overlap)} of hits in common`;
  const narrow = width < 640;
  return (
    <div ref={frame} class="stack">
      <p>
        {sentence(evaluation.verdict)} <a href={hashOf("evaluate", { job })}>The whole evaluation</a>
      </p>
      <div class="row">
        <span class="field-label" id="order-label">
          Sort by
        </span>
        <Segments label="Sort by" value={order} choices={ORDERS} onChange={setOrder} />
        <input
          class="input words"
          type="search"
          aria-label="Only queries that contain"
          placeholder="Only queries that contain …"
          value={words}
          onInput={(event) => setWords(event.currentTarget.value)}
        />
        <span class="muted small-text" role="status">
          {rows.length === evaluation.queries.length ? plural(rows.length, "query", "queries") : `${count(rows.length)} of ${plural(evaluation.queries.length, "query", "queries")}`}
        </span>
      </div>
      <p class="hint">
        <span class="tag" data-side="a">
          A
        </span>{" "}
        {a.label}{" "}
        <span class="tag" data-side="b">
          B
        </span>{" "}
        {b.label}. {HINTS[order]}
      </p>
      <div class="card list-card">
        {!narrow && (
          <div class="query-row query-head" aria-hidden="true">
            <span>Query</span>
            <span class="right">A</span>
            <span class="right">B</span>
            <span>Difference in {evaluation.metric}</span>
            <span class="right">In common</span>
          </div>
        )}
        {rows.length === 0 ? (
          <p class="muted list-empty">No query contains “{words}”.</p>
        ) : (
          <VirtualList
            label={`Queries by ${order}. Enter compares the answers of both sides.`}
            rows={rows}
            rowKey={(query) => query.id}
            say={say}
            draw={(query) => <Row query={query} reach={reach} narrow={narrow} />}
            rowHeight={narrow ? NARROW_HEIGHT : HEIGHT}
            onOpen={open}
            memory={`${job} ${order} ${words} ${narrow}`}
          />
        )}
      </div>
    </div>
  );
}

const HINTS: Record<string, string> = {
  disagreement: "First the queries whose first hits have least in common.",
  loss: "First the queries on which B loses most against A.",
  gain: "First the queries on which B gains most over A.",
};

function Row({ query, reach, narrow }: { query: QueryRow; reach: number; narrow: boolean }) {
  return (
    <span class={narrow ? "query-row query-row-narrow" : "query-row"}>
      <span class="query-text">{query.text}</span>
      <span class="right number" data-letter="A">
        {fixed(query.a)}
      </span>
      <span class="right number" data-letter="B">
        {fixed(query.b)}
      </span>
      <span class="difference">
        <b class="number">{signed(query.difference)}</b>
        <Lean share={query.difference / reach} />
      </span>
      <span class="right number common">{percent(query.overlap)}</span>
    </span>
  );
}

/** A small bar from the middle: to the right where B is better. */
function Lean({ share }: { share: number }) {
  const length = 40 * Math.min(1, Math.abs(share));
  return (
    <svg class="lean" width={84} height={12} viewBox="0 0 84 12" aria-hidden="true">
      <rect class={share > 0 ? "fill-good" : "fill-bad"} x={share > 0 ? 42 : 42 - length} y={2} width={length} height={8} />
      <line class="axis" x1={42} x2={42} y1={0} y2={12} />
    </svg>
  );
}

function sorted(queries: readonly QueryRow[], order: string): QueryRow[] {
  const by: Record<string, (query: QueryRow) => number> = {
    loss: (query) => query.difference,
    gain: (query) => -query.difference,
    disagreement: (query) => query.overlap,
  };
  const first = by[order] ?? by.disagreement!;
  return [...queries].sort((one, other) => first(one) - first(other) || Math.abs(other.difference) - Math.abs(one.difference));
}

function holds(words: string): (query: QueryRow) => boolean {
  const wanted = words.trim().toLowerCase();
  return (query) => !wanted || query.text.toLowerCase().includes(wanted);
}

function spread(queries: readonly QueryRow[]): number[] {
  let most = 0;
  for (const query of queries) most = Math.max(most, Math.abs(query.difference));
  return [most];
}
