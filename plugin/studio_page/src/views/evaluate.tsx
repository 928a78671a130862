/** Which side is better, by how much, and for which queries: the verdict first, then what it stands on. */
import { sideParams, useEvaluation, type EvaluationSetup } from "../evaluation";
import { fixed, interval, milliseconds, plural, sentence, signed } from "../format";
import { Differences } from "../parts/differences";
import { Dots, type Dot } from "../parts/dots";
import { Earlier } from "../parts/earlier";
import { JobProgress } from "../parts/job";
import { Notice } from "../parts/notice";
import { SetupForm } from "../parts/setup";
import { TableBehind, type Column } from "../parts/table";
import { goToList } from "../parts/virtual";
import { YAML } from "../question";
import { go, hashOf, useParam } from "../state";
import type { Difference, EvaluationResult, QueryRow, SliceDifference } from "../answers";

export function Evaluate() {
  const setup = useEvaluation();
  const { job } = setup.handle;
  return (
    <>
      <h1 class="visually-hidden">Evaluate</h1>
      <SetupForm setup={setup} />
      <JobProgress handle={setup.handle} what="Evaluation" />
      {job?.state === "done" && job.result && isOther(job.result, setup) && (
        <Notice kind="warning">The result below is of other sides or another metric than chosen above. Press Evaluate to measure what is chosen.</Notice>
      )}
      {job?.state === "done" && job.result && <Earlier key={job.id} evaluation={job.result} />}
      {job?.state === "done" && job.result && <Report evaluation={job.result} />}
    </>
  );
}

/** Whether the result is not of what the form says now. A config that was edited is not told apart from another. */
function isOther({ sides, metric }: EvaluationResult, setup: EvaluationSetup): boolean {
  const names = [setup.a, setup.b].map((side) => (side.startsWith(YAML) ? "yaml" : side));
  return metric !== setup.metric || sides.some((side, at) => side.id !== names[at]);
}

function Report({ evaluation }: { evaluation: EvaluationResult }) {
  const [job] = useParam("job");
  const [a, b] = evaluation.sides;
  if (!a || !b) return null;
  const { metric, difference, queries } = evaluation;
  const open = (query: QueryRow) => go("compare", { ...sideParams(a.id, b.id), q: query.text });
  return (
    <div class="report" role="region" aria-label="Result">
      <section class="card verdict-card" data-tone={difference && verdictTone(difference)}>
        <h2 class="visually-hidden">Verdict</h2>
        <p class="verdict">{sentence(evaluation.verdict)}</p>
        {difference && <p class="muted small-text">{sentence(evaluation.test)}</p>}
        {evaluation.remarks.map((remark) => (
          <p key={remark} class="small-text">
            {sentence(remark)}
          </p>
        ))}
      </section>
      <div class="two">
        <BothSides evaluation={evaluation} />
        {difference && <Slices difference={difference} evaluation={evaluation} a={a.label} b={b.label} />}
      </div>
      <figure class="card stack">
        <figcaption class="row between">
          <h2>Query by query</h2>
          <a href={hashOf("queries", { job, order: difference ? "loss" : "" })} onClick={goToList}>
            All {plural(queries.length, "query", "queries")} as a list
          </a>
        </figcaption>
        {difference && <Differences queries={queries} difference={difference} metric={metric} a={a.label} b={b.label} onOpen={open} />}
        <TableBehind
          caption={`${metric} by query`}
          columns={queryColumns(a.label, b.label)}
          rows={queries}
          rowKey={(query) => query.id}
        />
      </figure>
    </div>
  );
}

function BothSides({ evaluation }: { evaluation: EvaluationResult }) {
  const dots = evaluation.sides.map<Dot>((side, index) => ({
    key: side.id,
    label: side.label,
    ...(side.milliseconds === null ? {} : { detail: `${milliseconds(side.milliseconds)} for the median query` }),
    mean: side.mean,
    low: side.low,
    high: side.high,
    tone: index === 0 ? "a" : "b",
  }));
  return (
    <figure class="card stack">
      <figcaption>
        <h2>Each side</h2>
        <p class="hint">The dot is the mean over all queries, the line its 95% interval. Whether the sides differ is what the verdict says: here intervals may overlap.</p>
      </figcaption>
      <Dots dots={dots} axis={evaluation.metric} />
      <TableBehind caption={`${evaluation.metric} of each side`} columns={SIDE_COLUMNS} rows={evaluation.sides} rowKey={(side, index) => `${index} ${side.id}`} />
    </figure>
  );
}

type SideRow = EvaluationResult["sides"][number];

const SIDE_COLUMNS: readonly Column<SideRow>[] = [
  { head: "Side", cell: (side) => side.label },
  { head: "Mean", cell: (side) => fixed(side.mean, 4), number: true },
  { head: "95% interval", cell: (side) => (side.low === null || side.high === null ? "" : interval(side.low, side.high, fixed)), number: true },
  { head: "Median time", cell: (side) => (side.milliseconds === null ? "not measured" : milliseconds(side.milliseconds)), number: true },
];

function Slices({ difference, evaluation, a, b }: { difference: Difference; evaluation: EvaluationResult; a: string; b: string }) {
  const { slices, metric, queries } = evaluation;
  const all: Dot = { key: "all", label: "all queries", detail: plural(queries.length, "query", "queries"), ...difference, tone: verdictTone(difference) };
  const dots = slices.map<Dot>((slice) => ({
    key: `${slice.slice.by} ${slice.slice.value}`,
    label: `${slice.slice.by}: ${slice.slice.value}`,
    detail: plural(slice.slice.queries.length, "query", "queries"),
    mean: slice.mean,
    low: slice.low,
    high: slice.high,
    tone: tone(slice),
  }));
  return (
    <figure class="card stack">
      <figcaption>
        <h2>Difference, over all and by group</h2>
        <p class="hint">
          {b} minus {a}. {slices.length > 0 ? "Intervals of groups are widened for their number; groups of fewer than 10 queries are left out." : "No group has at least 10 queries."}
        </p>
      </figcaption>
      <Dots dots={[all, ...dots]} axis={`difference in ${metric}`} zero write={signed} />
      {slices.length > 0 && <TableBehind caption={`Difference in ${metric} by group of queries`} columns={SLICE_COLUMNS} rows={slices} rowKey={(slice) => `${slice.slice.by} ${slice.slice.value}`} />}
    </figure>
  );
}

const SLICE_COLUMNS: readonly Column<SliceDifference>[] = [
  { head: "Group", cell: (slice) => `${slice.slice.by}: ${slice.slice.value}` },
  { head: "Queries", cell: (slice) => slice.slice.queries.length, number: true },
  { head: "Difference", cell: (slice) => signed(slice.mean), number: true },
  { head: "95% interval", cell: (slice) => interval(slice.low, slice.high), number: true },
];

function queryColumns(a: string, b: string): readonly Column<QueryRow>[] {
  return [
    { head: "Query", cell: (query) => query.text },
    { head: a, cell: (query) => fixed(query.a), number: true },
    { head: b, cell: (query) => fixed(query.b), number: true },
    { head: "Difference", cell: (query) => signed(query.difference), number: true },
  ];
}

/** As the verdict decides: by the test, not by the interval. */
function verdictTone({ adjusted, mean }: Difference): "better" | "worse" | "open" {
  if (adjusted >= 0.05) return "open";
  return mean > 0 ? "better" : "worse";
}

function tone({ low, high }: SliceDifference): "better" | "worse" | "open" {
  if (low > 0) return "better";
  return high < 0 ? "worse" : "open";
}
