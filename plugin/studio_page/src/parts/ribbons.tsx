import { curveBumpX, line } from "d3-shape";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

import { plural } from "../format";

interface Ribbon {
  id: string;
  from: number;
  to: number;
}

const WIDTH = 88;

/** Lines between the two columns, from a document's place on the left to its place on the right. */
export function Ribbons({ both, lit, names }: { both: readonly string[]; lit: string | null; names: ReadonlyMap<string, [number, number, string]> }) {
  const svg = useRef<SVGSVGElement>(null);
  const [ribbons, setRibbons] = useState<Ribbon[]>([]);
  const [height, setHeight] = useState(0);

  useLayoutEffect(() => {
    const columns = svg.current?.parentElement?.parentElement;
    if (!columns) return undefined;
    const measure = () => {
      const top = svg.current?.parentElement?.getBoundingClientRect().top ?? 0;
      const places = (side: string) =>
        new Map(
          [...columns.querySelectorAll<HTMLElement>(`[data-column=${side}] [data-hit]`)].map((element) => {
            const box = element.getBoundingClientRect();
            return [element.dataset.hit ?? "", box.top - top + Math.min(box.height / 2, 26)];
          }),
        );
      const left = places("a");
      const right = places("b");
      setRibbons(both.flatMap((id) => (left.has(id) && right.has(id) ? [{ id, from: left.get(id)!, to: right.get(id)! }] : [])));
      setHeight(columns.clientHeight);
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(columns);
    for (const list of columns.querySelectorAll("[data-column] ol")) observer.observe(list);
    return () => observer.disconnect();
  }, [both]);

  const path = line<[number, number]>().curve(curveBumpX);
  return (
    <div class="ribbons">
      <svg ref={svg} width="100%" height={height} viewBox={`0 0 ${WIDTH} ${height}`} preserveAspectRatio="none" role="img" aria-label={said(both, names)}>
        {ribbons.map(({ id, from, to }) => (
          <path
            key={id}
            class="ribbon"
            data-lit={lit === id || undefined}
            data-move={from > to + 4 ? "up" : from < to - 4 ? "down" : "same"}
            d={path([
              [0, from],
              [WIDTH, to],
            ])!}
          />
        ))}
      </svg>
    </div>
  );
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
