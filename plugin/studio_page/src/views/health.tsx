/** Who made each vector, and whether it is whole. */
import { exported } from "../api";
import { bytes, count, percent } from "../format";
import { useJob } from "../jobs";
import { Dots, type Dot } from "../parts/dots";
import { JobProgress } from "../parts/job";
import { Failure, Loading } from "../parts/notice";
import { Table, TableBehind, type Column } from "../parts/table";
import { useRequest } from "../request";
import { useStudio } from "../studio";
import type { Health as HealthFacts, RecallReport, SlotHealth, SlotRecall } from "../types/health";

export function Health() {
  const { collection } = useStudio();
  const answer = useRequest<HealthFacts>((api) => api.get(`/health?collection=${encodeURIComponent(collection.name)}`), [collection.name]);
  if (answer.error) return <Failure error={answer.error} again={answer.reload} />;
  if (!answer.data) return <Loading label="Reading the collection's health" />;
  return (
    <>
      <h1 class="visually-hidden">Health</h1>
      <ul class="sentences">
        {answer.data.sentences.map((sentence) => (
          <li key={sentence}>{sentence}</li>
        ))}
      </ul>
      <section class="card stack" aria-labelledby="slots">
        <h2 id="slots">Vectors</h2>
        <Table caption="Vectors of each slot" columns={COLUMNS} rows={answer.data.slots} rowKey={(slot) => slot.name} />
        <Sizes slots={answer.data.slots} />
      </section>
      <Recall />
    </>
  );
}

const COLUMNS: readonly Column<SlotHealth>[] = [
  { head: "Slot", cell: (slot) => slot.name },
  { head: "Made by", cell: (slot) => slot.adapter, wide: true },
  { head: "Fingerprint", cell: (slot) => <code title={slot.fingerprint}>{slot.fingerprint.slice(0, 12)}</code> },
  { head: "Canaries", cell: (slot) => slot.canaries },
  { head: "Tokens not read", cell: (slot) => (slot.unread === null ? "not known" : percent(slot.unread)), number: true },
  { head: "Documents without it", cell: (slot) => count(slot.missing), number: true },
  { head: "On disk", cell: (slot) => (slot.bytes === null ? "not known" : bytes(slot.bytes)), number: true },
];

/** Bars of the bytes on disk, next to each other: which slot costs what. */
function Sizes({ slots }: { slots: readonly SlotHealth[] }) {
  const known = slots.filter((slot) => slot.bytes !== null);
  const most = Math.max(1, ...known.map((slot) => slot.bytes ?? 0));
  if (known.length < 2) return null;
  return (
    <div class="sizes" role="img" aria-label={`Size on disk. ${known.map((slot) => `${slot.name}: ${bytes(slot.bytes ?? 0)}`).join(", ")}`}>
      {known.map((slot) => (
        <div key={slot.name} class="size">
          <span class="size-name">{slot.name}</span>
          <svg width="100%" height={14} aria-hidden="true">
            <rect class="fill-a" width={`${(100 * (slot.bytes ?? 0)) / most}%`} height={14} rx={2} />
          </svg>
          <span class="number">{bytes(slot.bytes ?? 0)}</span>
        </div>
      ))}
    </div>
  );
}

function Recall() {
  const { collection } = useStudio();
  const handle = useJob<RecallReport>("health", collection.name);
  const result = handle.job?.state === "done" ? handle.job.result : null;
  const measured = result?.slots.filter((slot) => slot.recall !== null) ?? [];
  return (
    <section class="card stack" aria-labelledby="recall">
      <div class="row between">
        <div class="grow">
          <h2 id="recall">What approximate search misses</h2>
          <p class="hint">Stored vectors ask for their neighbours twice, by the graph and by reading everything. Recall is the share of the exact first hits that the graph finds.</p>
        </div>
        {!exported && (
          <button class="button" type="button" disabled={handle.busy} onClick={() => handle.start({})}>
            {result ? "Measure again" : "Measure"}
          </button>
        )}
      </div>
      <JobProgress handle={handle} what="Recall of approximate search" />
      {result?.verdict && <p class="verdict">{result.verdict}</p>}
      {measured.length > 0 && (
        <figure class="stack">
          <Dots dots={measured.map(recallDot)} axis="recall" />
          <TableBehind caption="Recall of approximate search" columns={RECALL_COLUMNS} rows={result?.slots ?? []} rowKey={(slot) => slot.name} />
        </figure>
      )}
      {result?.slots.filter((slot) => slot.recall === null).map((slot) => (
        <p key={slot.name} class="muted">
          {slot.name}: {slot.text ?? "not measured"}
        </p>
      ))}
    </section>
  );
}

function recallDot(slot: SlotRecall): Dot {
  const recall = slot.recall ?? 0;
  return { key: slot.name, label: slot.name, mean: recall, low: slot.low ?? null, high: slot.high ?? null, tone: "a" };
}

const RECALL_COLUMNS: readonly Column<SlotRecall>[] = [
  { head: "Slot", cell: (slot) => slot.name },
  { head: "Recall", cell: (slot) => (slot.recall === null ? "not measured" : slot.recall.toFixed(4)), number: true },
];
