/** Quality against time of the pipelines that were tried, and the change of the config that is recommended. */
import { useState } from "preact/hooks";

import { exported } from "../api";
import { fixed, interval, milliseconds, sentence, typeset } from "../format";
import { useJob } from "../jobs";
import { Diff } from "../parts/diff";
import { TextField } from "../parts/field";
import { JobProgress } from "../parts/job";
import { Pareto } from "../parts/pareto";
import { NoJudgedQueries, QuerySetSelect } from "../parts/setup";
import { TableBehind, type Column } from "../parts/table";
import { useParam } from "../state";
import { useStudio } from "../studio";
import type { TrialRow, TuningResult } from "../answers";

const METRIC = "nDCG@10";

export function Tune() {
  const { info, collection } = useStudio();
  const [judged, setJudged] = useParam("judged", info.judged[0]?.name ?? "");
  const [budget, setBudget] = useParam("budget");
  const handle = useJob<TuningResult>("tune", collection.name);
  const limit = budget.trim() === "" ? null : Number(budget);
  const wrong = limit !== null && !(limit > 0 && Number.isFinite(limit));
  const result = handle.job?.state === "done" ? handle.job.result : null;
  const start = (event: SubmitEvent) => {
    event.preventDefault();
    if (!wrong && !handle.busy) handle.start({ judged, budget_ms: limit });
  };
  return (
    <>
      <h1 class="visually-hidden">Tune</h1>
      {!exported && info.judged.length === 0 && <NoJudgedQueries />}
      {!exported && info.judged.length > 0 && (
        <form class="card setup" aria-label="What to tune by" onSubmit={start}>
          <p>
            Tries other pipelines over the same vectors on judged queries: fusions, weights, candidates, rescoring. Nothing is changed.
          </p>
          <div class="fields">
            <QuerySetSelect label="Judged queries" value={judged} onChange={setJudged} />
            <TextField
              label="Time limit for the median query, in ms"
              value={budget}
              onInput={setBudget}
              placeholder="no limit"
              hint={wrong ? "A number above 0, or nothing for no limit." : undefined}
            />
          </div>
          <div>
            <button class="button primary" type="submit" disabled={wrong} aria-disabled={handle.busy}>
              Tune
            </button>
          </div>
        </form>
      )}
      <JobProgress handle={handle} what="Tuning" />
      {result && <Report tuning={result} budget={wrong ? null : limit} />}
    </>
  );
}

function Report({ tuning, budget }: { tuning: TuningResult; budget: number | null }) {
  const chosen = Math.max(0, tuning.trials.findIndex((trial) => trial.chosen));
  const [picked, setPicked] = useState(chosen);
  const trial = tuning.trials[picked];
  return (
    <div class="report" role="region" aria-label="Result">
      <section class="card verdict-card" data-tone={tuning.passed ? "better" : "open"}>
        <h2 class="visually-hidden">Verdict</h2>
        <p class="verdict">{sentence(tuning.verdict)}</p>
        {tuning.gains.length > 0 && <p class="small-text number">Gain on held-out queries over {typeset(tuning.gains.join(", over "))}.</p>}
        {tuning.remarks.map((remark) => (
          <p key={remark} class="small-text">
            {sentence(remark)}
          </p>
        ))}
      </section>
      <figure class="card stack">
        <figcaption>
          <h2>{METRIC} against time</h2>
          <Legend />
        </figcaption>
        <Pareto trials={tuning.trials} metric={METRIC} picked={picked} onPick={setPicked} budget={budget} />
        {trial && (
          <p class="chosen-row" aria-live="polite">
            <code class="grow">{trial.label}</code>
            {trial.present && <span class="tag">present</span>}
            {trial.chosen && !trial.present && <span class="tag">recommended</span>}
            <span class="number">
              {METRIC} <b>{fixed(trial.quality)}</b> {interval(trial.low, trial.high, fixed)} · {milliseconds(trial.milliseconds)}
            </span>
          </p>
        )}
        <TableBehind caption="Trials" columns={COLUMNS} rows={tuning.trials} rowKey={(_, index) => String(index)} />
      </figure>
      {trial && <Change trial={trial} tuning={tuning} />}
    </div>
  );
}

function Legend() {
  return (
    <p class="chart-legend small-text">
      <span>
        <i class="dot-sign chosen" /> recommended
      </span>
      <span>
        <i class="dot-sign present" /> present
      </span>
      <span>
        <i class="dot-sign on-front" /> front: no trial is both better and faster
      </span>
      <span>
        <i class="dot-sign" /> other trials
      </span>
    </p>
  );
}

/** The config of the trial that is picked: at first the recommended one. */
function Change({ trial, tuning }: { trial: TrialRow; tuning: TuningResult }) {
  const text = trial.chosen ? tuning.diff || trial.diff : trial.diff;
  if (trial.present) return <section class="card">This is the present pipeline: the config stays as it is.</section>;
  if (!text) return <section class="card">A diff of the config is written for the recommended trial and for those on the front.</section>;
  return (
    <section class="card stack">
      {!(trial.chosen && tuning.passed) && <p>Not recommended: this trial is not shown to be better than the present pipeline.</p>}
      <Diff text={text} what={tuning.file ? `Change of ${tuning.file}` : "Change of the search settings"} />
      <p class="hint">
        {tuning.patch ? (
          <>
            Set the lines with a plus in the config, or save the diff as a file and run <code>patch {tuning.file} FILE</code>.
          </>
        ) : (
          <>
            Set the lines with a plus in the config, whose style may differ; or let <code>diptych tune search --write</code> do it.
          </>
        )}{" "}
        Then <code>diptych plan</code> and <code>diptych apply</code>: the gate measures it before it goes live.
      </p>
    </section>
  );
}

function placeOf(trial: TrialRow): string {
  if (trial.present) return trial.chosen ? "present, stays" : "present";
  return trial.chosen ? "recommended" : trial.front ? "front" : "";
}

const COLUMNS: readonly Column<TrialRow>[] = [
  { head: "Pipeline", cell: (trial) => <code>{trial.label}</code>, wide: true },
  { head: METRIC, cell: (trial) => fixed(trial.quality, 4), number: true },
  { head: "95% interval", cell: (trial) => interval(trial.low, trial.high, (value) => fixed(value, 4)), number: true },
  { head: "Median time", cell: (trial) => milliseconds(trial.milliseconds), number: true },
  { head: "Place", cell: placeOf },
];
