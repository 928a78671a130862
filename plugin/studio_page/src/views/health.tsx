/** Who made each vector, and whether it is whole. */
import { exported } from "../api";
import { bytes, count, fixed, percent, plural, sentence } from "../format";
import { useJob } from "../jobs";
import { Dots, type Dot } from "../parts/dots";
import { JobProgress } from "../parts/job";
import { Failure, Loading, Notice } from "../parts/notice";
import { Stale } from "../parts/stale";
import { Table, TableBehind, type Column } from "../parts/table";
import { useRequest } from "../request";
import { useStudio } from "../studio";
import type { CheckResult, CheckedSlot, HealthAnswer, SlotHealth } from "../answers";

export function Health() {
  const { collection } = useStudio();
  const answer = useRequest<HealthAnswer>((api) => api.get(`/health?collection=${encodeURIComponent(collection.name)}`), [collection.name]);
  const title = <h1 class="visually-hidden">Health</h1>;
  if (answer.error || !answer.data) {
    return (
      <>
        {title}
        {answer.error ? <Failure error={answer.error} again={answer.reload} /> : <Loading label="Reading the collection's health" />}
      </>
    );
  }
  return (
    <>
      {title}
      <Facts health={answer.data} />
      <Check />
    </>
  );
}

function Facts({ health }: { health: HealthAnswer }) {
  return (
    <>
      <Stale config={health.config} />
      {health.sentences.length === 1 && <p class="sentences">{sentence(health.sentences[0] ?? "")}</p>}
      {health.sentences.length > 1 && (
        <ul class="sentences">
          {health.sentences.map((line) => (
            <li key={line}>{sentence(line)}</li>
          ))}
        </ul>
      )}
      {health.slots.length > 0 && (
        <section class="card stack" aria-labelledby="vectors">
          <div class="row between">
            <h2 id="vectors">Who made each vector</h2>
            <p class="muted number">
              {plural(health.documents, "document")}
              {health.bytes !== null && `, ${bytes(health.bytes)} on disk`}
            </p>
          </div>
          <Table caption="Vectors of each slot" columns={COLUMNS} rows={health.slots} rowKey={(slot) => slot.vector} />
          <Words slots={health.slots} />
          <Sizes slots={health.slots} />
        </section>
      )}
    </>
  );
}

/** What the columns mean, and why a cell has no figure. */
function Words({ slots }: { slots: readonly SlotHealth[] }) {
  return (
    <p class="hint">
      Canaries are texts whose vectors were stored when the encoder was first used: an encoder that makes other vectors of them is refused.
      {slots.some((slot) => slot.unread === null) &&
        " Tokens are not counted where an encoder reads texts of any length, or where another program filled the vectors: diptych populate counts them."}
      {slots.some((slot) => slot.bytes === null) && " A size is not known where the store does not tell it and it cannot be computed, as for sparse vectors."}
    </p>
  );
}

/** Qdrant's unnamed vector has an empty name. */
function vectorOf(slot: SlotHealth): string {
  return slot.vector || "(unnamed)";
}

const COLUMNS: readonly Column<SlotHealth>[] = [
  { head: "Slot", cell: (slot) => slot.name },
  { head: "Vector", cell: vectorOf },
  { head: "State", cell: (slot) => <span class="tag" data-kind={slot.role === "live" ? "good" : undefined}>{slot.role}</span> },
  { head: "Made by", cell: madeBy, wide: true },
  { head: "Canaries", cell: (slot) => slot.canaries, wide: true },
  { head: "Tokens not read", cell: (slot) => (slot.unread === null ? "not counted" : <span title={slot.unread_sentence}>{percent(slot.unread)}{slot.sampled && " of a sample"}</span>), number: true },
  { head: "Documents without this vector", cell: (slot) => `${count(slot.missing)} of ${count(slot.points)}`, number: true },
  { head: "On disk", cell: sizeOf, number: true },
];

function madeBy(slot: SlotHealth) {
  const options = Object.entries(slot.options).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
  return (
    <>
      {[slot.adapter, ...options].join(", ")}
      <details>
        <summary class="muted small-text">Fingerprint</summary>
        <code class="muted">{slot.fingerprint}</code>
      </details>
    </>
  );
}

function sizeOf(slot: SlotHealth): string {
  if (slot.bytes === null) return "not known";
  return `${slot.estimated ? "about " : ""}${bytes(slot.bytes)}`;
}

/** Bars of the bytes on disk, one below the other: which slot costs what. The table above has the figures. */
function Sizes({ slots }: { slots: readonly SlotHealth[] }) {
  const known = slots.filter((slot) => slot.bytes !== null);
  const most = Math.max(1, ...known.map((slot) => slot.bytes ?? 0));
  if (known.length < 2) return null;
  return (
    <div class="sizes" role="img" aria-label={`Size on disk. ${known.map((slot) => `${vectorOf(slot)}: ${sizeOf(slot)}`).join(", ")}`}>
      {known.map((slot) => (
        <div key={slot.vector} class="size">
          <span class="size-name">{vectorOf(slot)}</span>
          <svg width="100%" height={14} aria-hidden="true">
            <rect class="fill-a" width={`${(100 * (slot.bytes ?? 0)) / most}%`} height={14} rx={2} />
          </svg>
          <span class="number">{sizeOf(slot)}</span>
        </div>
      ))}
    </div>
  );
}

function Check() {
  const { collection } = useStudio();
  const handle = useJob<CheckResult>("health", collection.name);
  const result = handle.job?.state === "done" ? handle.job.result : null;
  return (
    <section class="card stack" aria-labelledby="check">
      <div class="row between">
        <div class="grow">
          <h2 id="check">What approximate search misses</h2>
          <p class="hint">
            Asks with words of the documents, once by the graph and once by reading every vector. Recall is the share of the exact first hits
            that the graph finds. Encoders are loaded and compared with their canaries.
          </p>
        </div>
        {!exported && (
          <button class="button" type="button" aria-disabled={handle.busy} onClick={() => handle.busy || handle.start({})}>
            {result ? "Measure again" : "Measure"}
          </button>
        )}
      </div>
      <JobProgress handle={handle} what="Check of encoders and graphs" />
      {result && <Checked check={result} />}
    </section>
  );
}

function Checked({ check }: { check: CheckResult }) {
  const dots = check.slots.filter((slot) => slot.recall !== null).map(dotOf);
  return (
    <>
      <Notice kind={check.slots.some((slot) => slot.attention) ? "warning" : "good"}>{sentence(check.verdict)}</Notice>
      <figure class="stack">
        {dots.length > 0 && <Dots dots={dots} axis="recall" across={[0.9, 1]} write={(value) => fixed(value, 4)} />}
        <TableBehind caption="Check of each slot" columns={CHECK_COLUMNS} rows={check.slots} rowKey={(slot) => slot.name} />
      </figure>
    </>
  );
}

function dotOf(slot: CheckedSlot): Dot {
  const detail = `first ${slot.at}, ${plural(slot.queries, "query", "queries")}`;
  return { key: slot.name, label: slot.name, detail, mean: slot.recall ?? 0, low: null, high: null, tone: slot.attention ? "worse" : "a" };
}

const CHECK_COLUMNS: readonly Column<CheckedSlot>[] = [
  { head: "Slot", cell: (slot) => slot.name },
  { head: "Recall", cell: (slot) => (slot.recall === null ? "exact" : fixed(slot.recall, 4)), number: true },
  { head: "Canaries, lowest cosine", cell: (slot) => (slot.likeness === null ? "none" : fixed(slot.likeness, 4)), number: true },
  { head: "In words", cell: (slot) => slot.text, wide: true },
];
