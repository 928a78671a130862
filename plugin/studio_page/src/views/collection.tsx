/** A collection: how far a change of its encoders is and the way back, who made each vector, and whether it is whole. */
import { useEffect, useState } from "preact/hooks";

import { act, ApiError } from "../api";
import { bytes, count, plural, sentence, sentenceCase, typeset, utc } from "../format";
import { toast } from "../parts/announce";
import { Dialog } from "../parts/dialog";
import { TextField } from "../parts/field";
import { Bar } from "../parts/job";
import { Failure, Loading, Notice } from "../parts/notice";
import { Table, type Column } from "../parts/table";
import { useRequest } from "../request";
import { hashOf, lastParams } from "../state";
import { useStudio } from "../studio";
import type { Event as SwapEvent, CollectionAnswer, SwapStep, VectorRow } from "../answers";

const WHILE_RUNNING = 1500; // ms between two looks
const OTHERWISE = 10_000;

export function Collection() {
  const { collection } = useStudio();
  const answer = useRequest<CollectionAnswer>((api) => api.get(`/collection?collection=${encodeURIComponent(collection.name)}`), [collection.name]);
  const swap = answer.data;
  useEffect(() => {
    if (!swap && !answer.error) return undefined;
    const running = swap?.steps.some((step) => step.state === "running"); // a store that does not answer is asked again too
    const timer = setInterval(() => document.hidden || answer.reload(), running ? WHILE_RUNNING : OTHERWISE);
    return () => clearInterval(timer);
  }, [swap, answer.error]);
  const title = <h1 class="visually-hidden">Collection</h1>;
  if (answer.error || !swap) {
    return (
      <>
        {title}
        {answer.error ? <Failure error={answer.error} again={answer.reload} /> : <Loading label="Reading the state of the collection" />}
      </>
    );
  }
  return (
    <>
      {title}
      <p class="verdict">{sentence(swap.sentence)}</p>
      {swap.steps.length > 0 && <Timeline steps={swap.steps} />}
      <Notes notes={swap.notes} />
      <Generations swap={swap} />
      <Rollback swap={swap} onDone={answer.reload} />
      {swap.history.length > 0 && <History events={swap.history} />}
    </>
  );
}

const STATE_WORDS = { done: "done", running: "under way", waiting: "not yet", failed: "failed", undone: "taken back" } as const;
const STATE_SIGNS = { done: "✓", running: "●", waiting: "○", failed: "✕", undone: "↶" } as const;

function Timeline({ steps }: { steps: readonly SwapStep[] }) {
  return (
    <section class="card" aria-label="Steps of the swap">
      <ol class="timeline">
        {steps.map((step) => (
          <li key={step.name} class="step" data-state={step.state} aria-current={step.state === "running" ? "step" : undefined}>
            <span class="step-sign" aria-hidden="true">
              {STATE_SIGNS[step.state]}
            </span>
            <div class="step-body">
              <h2>
                {sentenceCase(step.name)} <span class="muted small-text">{STATE_WORDS[step.state]}</span>
              </h2>
              <p>{sentenceCase(typeset(step.text))}</p>
              {step.total ? <StepProgress step={step} total={step.total} /> : null}
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}

function StepProgress({ step, total }: { step: SwapStep; total: number }) {
  return (
    <>
      <Bar done={step.done ?? 0} total={total} label={sentenceCase(step.name)} />
      <p class="small-text number">{`${count(step.done ?? 0)} of ${plural(total, "document")}`}</p>
    </>
  );
}

function Notes({ notes }: { notes: readonly string[] }) {
  return (
    <ul class="sentences">
      {notes.map((note) => (
        <li key={note}>{sentence(note)}</li>
      ))}
    </ul>
  );
}

function Generations({ swap }: { swap: CollectionAnswer }) {
  const pairs = comparable(swap.vectors);
  return (
    <section class="card stack" aria-labelledby="generations">
      <div class="row between">
        <h2 id="generations">Vectors</h2>
        <p class="muted number">
          {plural(swap.documents, "document")}
          {swap.bytes !== null && `, ${bytes(swap.bytes)} on disk`}
        </p>
        {pairs.map(([old, fresh]) => (
          <a key={fresh.slot} class="button" href={hashOf("compare", { ...lastParams("compare"), doc: "", a: old.side!, b: fresh.side! })}>
            Compare generations {old.generation} and {fresh.generation} of {fresh.slot}
          </a>
        ))}
      </div>
      <Table caption="Vectors" columns={COLUMNS} rows={swap.vectors} rowKey={(one) => `${one.slot} ${one.generation}`} />
      <p class="hint">
        Canaries are texts whose vectors were stored when the encoder was first used: an encoder that makes other vectors of them is refused.
      </p>
    </section>
  );
}

const COLUMNS: readonly Column<VectorRow>[] = [
  { head: "Slot", cell: (one) => one.slot },
  { head: "Generation", cell: (one) => one.generation, number: true },
  { head: "State", cell: (one) => <span class="tag" data-kind={one.state === "live" ? "good" : undefined}>{one.state}</span> },
  { head: "Made by", cell: madeBy, wide: true },
  { head: "Documents without it", cell: (one) => `${count(one.missing)} of ${count(one.points)}`, number: true },
  { head: "Canaries", cell: (one) => one.canaries, wide: true },
  { head: "Not read", cell: (one) => one.unread || "not counted", wide: true },
  { head: "On disk", cell: (one) => (one.bytes === null ? "not known" : bytes(one.bytes)), number: true },
  { head: "Search", cell: (one) => (one.side ? <a href={hashOf("compare", { ...lastParams("compare"), doc: "", a: one.side })} aria-label={`Search it: ${one.slot}, generation ${one.generation}`}>Search it</a> : "not searchable") },
];

function madeBy(one: VectorRow) {
  const maker = [one.adapter, ...(one.model ? [`model: ${one.model}`] : []), ...one.options].join(", ");
  return (
    <>
      {one.asking ? `${maker}; queries by ${one.asking}` : maker}
      <details>
        <summary class="muted small-text">Fingerprint</summary>
        <code class="muted">{one.fingerprint}</code>
      </details>
    </>
  );
}

/** For each slot with two generations that can be searched: the older and the newer. */
function comparable(generations: readonly VectorRow[]): [VectorRow, VectorRow][] {
  const slots = [...new Set(generations.map((one) => one.slot))];
  return slots.flatMap((slot) => {
    const own = generations.filter((one) => one.slot === slot && one.side).sort((one, other) => one.generation - other.generation);
    const [old, fresh] = own.slice(-2);
    return old && fresh ? [[old, fresh] as [VectorRow, VectorRow]] : [];
  });
}

function Rollback({ swap, onDone }: { swap: CollectionAnswer; onDone: () => void }) {
  const { collection, reload } = useStudio();
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [why, setWhy] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  if (swap.reason) {
    return (
      <Notice>
        <p>
          <b>No rollback from here.</b> {sentence(swap.reason)}
        </p>
      </Notice>
    );
  }
  const verb = swap.forward ? "Go forward again" : "Roll back";
  const rollBack = () => {
    setBusy(true);
    setError(null);
    act("POST", "/swap/rollback", { collection: collection.name, confirm: collection.name, seen: swap.seen, ...(why.trim() ? { why: why.trim() } : {}) }).then(
      () => {
        setAsking(false);
        toast(swap.forward ? "Gone forward again." : "Rolled back.");
        onDone();
        reload();
      },
      (reason: unknown) => setError(reason instanceof ApiError ? reason : new ApiError(String(reason), 0, "page")),
    ).finally(() => setBusy(false));
  };
  return (
    <section class="card row between" aria-label="Rollback">
      <p class="grow">{sentence(`${swap.forward ? "going forward again" : "a rollback"} would ${swap.rollback}`)}</p>
      <button class="button danger" type="button" onClick={() => setAsking(true)}>
        {verb} …
      </button>
      {asking && (
        <Dialog title={`${swap.forward ? "Go forward again with" : "Roll back"} ${collection.name}?`} onClose={() => setAsking(false)}>
          <p>{sentence(`this will ${swap.rollback}`)}</p>
          <p class="muted">Programs that serve the collection follow within seconds. Edit the config file afterwards, so that it names the encoders that are live.</p>
          <TextField label="Why? Kept in the history" value={why} onInput={setWhy} />
          {error && <Failure error={error} />}
          <div class="row">
            <button class="button danger" type="button" disabled={busy} onClick={rollBack}>
              {busy ? "Changing …" : verb}
            </button>
            <button class="button" type="button" data-first onClick={() => setAsking(false)}>
              Keep it as it is
            </button>
          </div>
        </Dialog>
      )}
    </section>
  );
}

function History({ events }: { events: readonly SwapEvent[] }) {
  const newest = [...events].reverse();
  return (
    <details class="card">
      <summary>What was done before</summary>
      <Table caption="History of this collection's encoders" columns={EVENT_COLUMNS} rows={newest} rowKey={(event, index) => `${event.when} ${index}`} />
    </details>
  );
}

const EVENT_COLUMNS: readonly Column<SwapEvent>[] = [
  { head: "What", cell: (event) => event.what },
  { head: "When", cell: (event) => <time dateTime={event.when}>{utc(event.when)}</time> },
  { head: "By", cell: (event) => event.by },
  { head: "Why", cell: (event) => event.why, wide: true },
  { head: "Gate", cell: (event) => event.gate, wide: true },
];
