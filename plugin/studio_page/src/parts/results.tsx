/** The two columns of hits, and what joins them. */
import { memo } from "preact/compat";
import { useMemo, useRef } from "preact/hooks";

import { type ApiError } from "../api";
import { isolated, sentence } from "../format";
import { NONE, type Asked } from "../question";
import type { Answer } from "../request";
import { route } from "../state";
import { sideLabel, useStudio } from "../studio";
import type { Found, Grades } from "../answers";
import { BesideHits, HitList, titleOf, type Beside } from "./hits";
import { Empty, Failure, Late, Loading } from "./notice";
import { pointed, Ribbons } from "./ribbons";
import { Stages } from "./stages";
import { overlapOf, Venn, type Group, type Overlap } from "./venn";

interface Props {
  asked: Asked;
  a: Answer<Found>;
  b: Answer<Found>;
  grades: Grades | null;
  lit: Group | null;
  onLit: (group: Group | null) => void;
  open: string | null;
  onOpen: (id: string) => void;
  columns: { current: HTMLDivElement | null };
}

interface Pair {
  ranksA: ReadonlyMap<string, number>;
  ranksB: ReadonlyMap<string, number>;
  overlap: Overlap;
  names: ReadonlyMap<string, [number, number, string]>;
}

function ranksOf(answer: Found | null): ReadonlyMap<string, number> {
  return new Map(answer?.hits.map((hit, at) => [hit.id, at + 1]));
}

function pairOf(a: Found | null, b: Found | null): Pair | null {
  if (!a || !b) return null;
  const [ranksA, ranksB] = [ranksOf(a), ranksOf(b)];
  const named = a.hits.map((hit): [string, [number, number, string]] => [hit.id, [ranksA.get(hit.id) ?? 0, ranksB.get(hit.id) ?? 0, titleOf(hit)]]);
  return { ranksA, ranksB, overlap: overlapOf([...ranksA.keys()], [...ranksB.keys()]), names: new Map(named) };
}

const NO_GRADES: Readonly<Record<string, number>> = {};

export function Results({ asked, a, b, grades, lit, onLit, open, onOpen, columns }: Props) {
  const { collection } = useStudio();
  const two = asked.b !== NONE;
  // While one side has answered and the other has not, the lists belong to different queries and nothing joins them. What
  // joined the lists before stays, hidden by style, so that the first answer draws one column and the second the other.
  const apart = two && a.loading !== b.loading;
  const last = useRef<Pair | null>(null);
  const fresh = useMemo(() => (apart ? null : pairOf(a.data, b.data)), [apart, a.data, b.data]);
  if (!apart) last.current = fresh;
  const pair = last.current;
  const found = grades?.grades ?? NO_GRADES;
  const besideA = useMemo<Beside>(() => ({ others: two && pair ? pair.ranksB : null, grades: found }), [two, pair, found]);
  const besideB = useMemo<Beside>(() => ({ others: pair ? pair.ranksA : null, grades: found }), [pair, found]);
  const shown = apart || !pair ? null : lit;
  const count = pair ? pair.overlap.a.length + pair.overlap.both.length + pair.overlap.b.length : 0;
  const common = { lit: shown, open, onOpen };
  return (
    <>
      {two && !a.error && !b.error && pair && count > 0 && <Venn overlap={pair.overlap} lit={lit} onLit={onLit} />}
      <div class={two ? "columns columns-two" : "columns"} ref={columns} aria-busy={a.loading || b.loading} data-apart={apart || undefined}>
        <Column side="a" label={sideLabel(collection, asked.a)} {...a} beside={besideA} {...common} />
        {two && (pair ? <Ribbons both={pair.overlap.both} open={open} names={pair.names} /> : <div class="ribbons" />)}
        {two && <Column side="b" label={sideLabel(collection, asked.b)} {...b} beside={besideB} {...common} />}
      </div>
    </>
  );
}

interface ColumnProps {
  side: "a" | "b";
  label: string;
  data: Found | null;
  error: ApiError | null;
  loading: boolean;
  reload: () => void;
  beside: Beside;
  lit: Group | null;
  open: string | null;
  onOpen: (id: string) => void;
}

const Column = memo(function Column({ side, label, data, error, loading, reload, beside, lit, open, onOpen }: ColumnProps) {
  const first = data?.hits[0]?.id ?? null;
  const own = open !== null && data?.hits.some((hit) => hit.id === open) ? open : null;
  return (
    <section class="column" data-column={side} aria-label={`${side.toUpperCase()}: ${label}`}>
      <header class="column-head">
        <h2>
          <span class="tag" data-side={side}>
            {side.toUpperCase()}
          </span>{" "}
          {label}
        </h2>
        {data && <Stages total={data.milliseconds} seconds={data.seconds} />}
      </header>
      <div class="column-loading">{loading && <Loading label={`${side.toUpperCase()} is searching`} />}</div>
      {loading && <Late>Still searching. The first search of a side loads its encoders, which takes seconds, on a busy machine longer.</Late>}
      {error && <Failure error={error} again={reload} />}
      {data && data.hits.length === 0 && (
        <Empty title="Nothing found">{data.warnings.map(sentence).join(" ") || noHit(route.get().params.tenant)}</Empty>
      )}
      {data && (
        <BesideHits.Provider value={beside}>
          <HitList
            side={side}
            label={label}
            hits={data.hits}
            lit={lit}
            shared={lit === null ? null : beside.others}
            open={own}
            stop={own ?? first}
            onOpen={onOpen}
            onPoint={pointed.set}
          />
        </BesideHits.Provider>
      )}
    </section>
  );
});

function noHit(tenant: string | undefined): string {
  return tenant ? `No document of the tenant “${isolated(tenant)}” answers this query.` : "No document answers this query.";
}
