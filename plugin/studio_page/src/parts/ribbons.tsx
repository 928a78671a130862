import { curveBumpX, line } from "d3-shape";
import { memo } from "preact/compat";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { plural } from "../format";
import { createStore, useStore } from "../store";

interface Ribbon {
  id: string;
  move: "up" | "down" | "same";
  d: string;
}

interface Props {
  both: readonly string[];
  /** The document whose explanation is open. */
  open: string | null;
  /** Ranks and title by document. */
  names: ReadonlyMap<string, [number, number, string]>;
}

const WIDTH = 88;
const path = line<[number, number]>().curve(curveBumpX);

/** The document that somebody points at. Only the ribbons follow it. */
export const pointed = createStore<string | null>(null);

/** Lines between the two columns, from a document's place on the left to its place on the right. */
export const Ribbons = memo(function Ribbons({ both, open, names }: Props) {
  const svg = useRef<SVGSVGElement>(null);
  const [drawn, setDrawn] = useState<{ ribbons: readonly Ribbon[]; height: number }>({ ribbons: [], height: 0 });
  const lit = useStore(pointed) ?? open;
  const label = useMemo(() => said(both, names), [both, names]);

  useLayoutEffect(() => {
    const columns = svg.current?.closest<HTMLElement>(".columns");
    if (!columns) return undefined;
    const lists = [...columns.querySelectorAll<HTMLElement>("[data-column] ol")];
    const sizes = () => [columns, ...lists].map((element) => `${element.offsetWidth} ${element.offsetHeight}`).join();
    let known = "";
    const measure = () => {
      const now = sizes(); // an observer calls at its beginning too
      if (now === known) return;
      known = now;
      setDrawn({ ribbons: ribbonsIn(columns, both), height: columns.clientHeight });
    };
    measure();
    const observer = new ResizeObserver(measure);
    for (const element of [columns, ...lists]) observer.observe(element);
    return () => observer.disconnect();
  }, [both]);

  return (
    <div class="ribbons">
      <svg ref={svg} width="100%" height={drawn.height} viewBox={`0 0 ${WIDTH} ${drawn.height}`} preserveAspectRatio="none" role="img" aria-label={label}>
        {drawn.ribbons.map(({ id, move, d }) => (
          <Line key={id} move={move} d={d} lit={lit === id} />
        ))}
      </svg>
    </div>
  );
});

const Line = memo(function Line({ move, d, lit }: Omit<Ribbon, "id"> & { lit: boolean }) {
  return <path class="ribbon" data-lit={lit || undefined} data-move={move} d={d} />;
});

/** The ribbons by where the cards are now. */
function ribbonsIn(columns: HTMLElement, both: readonly string[]): Ribbon[] {
  const top = columns.querySelector(".ribbons")?.getBoundingClientRect().top ?? 0;
  const places = (side: string) =>
    new Map(
      [...columns.querySelectorAll<HTMLElement>(`[data-column=${side}] [data-hit]`)].map((element) => {
        const box = element.getBoundingClientRect();
        return [element.dataset.hit ?? "", box.top - top + Math.min(box.height / 2, 26)];
      }),
    );
  const left = places("a");
  const right = places("b");
  return both.flatMap((id) => {
    const from = left.get(id);
    const to = right.get(id);
    if (from === undefined || to === undefined) return [];
    const ends: [number, number][] = [
      [0, from],
      [WIDTH, to],
    ];
    return [{ id, move: from > to + 4 ? "up" : from < to - 4 ? "down" : "same", d: path(ends) ?? "" }];
  });
}

/** The text alternative: the moves of the first documents. */
function said(both: readonly string[], names: ReadonlyMap<string, [number, number, string]>): string {
  if (!both.length) return "No document is in both answers.";
  const moves = both.slice(0, 10).flatMap((id) => {
    const move = names.get(id);
    return move ? [`${move[2]} from rank ${move[0]} to ${move[1]}`] : [];
  });
  const rest = both.length - moves.length;
  return `${plural(both.length, "document")} in both answers: ${moves.join("; ")}${rest > 0 ? `; and ${rest} more` : ""}.`;
}
