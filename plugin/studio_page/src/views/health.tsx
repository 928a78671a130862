/** Who made each vector, and whether it is whole. */
import { bytes, count, percent, plural, sentence } from "../format";
import { Failure, Loading } from "../parts/notice";
import { Stale } from "../parts/stale";
import { Table, type Column } from "../parts/table";
import { useRequest } from "../request";
import { useStudio } from "../studio";
import type { HealthAnswer, SlotHealth } from "../answers";

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
