/** A bar for each query, sorted by its difference; a cursor (pointer or arrow keys) names a query and opens it. */
import { tickStep } from "d3-array";
import { scaleLinear } from "d3-scale";
import { area, curveStepAfter } from "d3-shape";
import { useMemo, useState } from "preact/hooks";

import { fixed, interval, isolated, plural, signed } from "../format";
import type { Difference, QueryRow } from "../answers";
import { useWidth } from "./width";

interface Props {
  queries: readonly QueryRow[];
  difference: Difference;
  metric: string;
  a: string;
  b: string;
  onOpen: (query: QueryRow) => void;
}

const HEIGHT = 250;
const LEFT = 44;
const TOP = 8;
const FLOOR = HEIGHT - 24;
const EQUAL = 1e-9;
const TICKS = 5;

export function Differences({ queries, difference, metric, a, b, onOpen }: Props) {
  const [frame, width] = useWidth<HTMLDivElement>();
  const [chosen, setChosen] = useState(0);
  const sorted = useMemo(() => [...queries].sort((one, other) => other.difference - one.difference), [queries]);
  const size = sorted.length;
  const reach = Math.max(0.01, Math.abs(sorted[0]?.difference ?? 0), Math.abs(sorted[size - 1]?.difference ?? 0));
  const x = scaleLinear().domain([0, Math.max(1, size)]).range([LEFT, width - 2]);
  const y = scaleLinear().domain([-1.05 * reach, 1.05 * reach]).range([FLOOR, TOP]);
  const step = tickStep(-1.05 * reach, 1.05 * reach, TICKS);
  const bars = useMemo(() => barPaths(sorted, x, y), [sorted, width]);
  const cursor = Math.min(chosen, size - 1);
  const query = sorted[cursor];
  if (!query) return <p class="muted">No query was measured.</p>;

  const better = sorted.filter((one) => one.difference > EQUAL).length;
  const worse = sorted.filter((one) => one.difference < -EQUAL).length;
  const follow = (event: PointerEvent & { currentTarget: SVGSVGElement }) => {
    const place = Math.floor(x.invert(event.clientX - event.currentTarget.getBoundingClientRect().left));
    setChosen(Math.max(0, Math.min(size - 1, place)));
  };
  const press = (event: KeyboardEvent) => {
    const next = moved(event.key, cursor, size);
    if (next !== null) setChosen(next);
    else if (event.key === "Enter" || event.key === " ") onOpen(query);
    else return;
    event.preventDefault();
  };
  return (
    <div ref={frame} class="stack">
      <p class="chart-legend small-text">
        <span>
          <i class="swatch fill-good" /> {b} is better on {plural(better, "query", "queries")}
        </span>
        <span>
          <i class="swatch fill-bad" /> worse on {plural(worse, "query", "queries")}
        </span>
        <span>equal on {size - better - worse}</span>
        <span>
          <i class="swatch-dashed" /> mean {signed(difference.mean)} with its interval {interval(difference.low, difference.high)}
        </span>
      </p>
      <svg
        class="chart differences"
        role="slider"
        tabindex={0}
        aria-label={`Difference in ${metric} by query, best first. Arrow keys choose a query, Enter compares its answers.`}
        aria-valuemin={1}
        aria-valuemax={size}
        aria-valuenow={cursor + 1}
        aria-valuetext={`${isolated(query.text)}: ${signed(query.difference)}, ${a} ${fixed(query.a)}, ${b} ${fixed(query.b)}`}
        width={width}
        height={HEIGHT}
        viewBox={`0 0 ${width} ${HEIGHT}`}
        onPointerMove={follow}
        onPointerDown={follow}
        onClick={(event) => isTouch(event) || onOpen(query)}
        onKeyDown={press}
      >
        {y.ticks(TICKS).map((tick) => (
          <g key={tick}>
            <line class={tick === 0 ? "axis" : "gridline"} x1={LEFT} x2={width} y1={y(tick)} y2={y(tick)} />
            <text x={LEFT - 6} y={y(tick) + 4} text-anchor="end">
              {signed(tick, step < 0.01 ? 3 : step < 0.1 ? 2 : 1)}
            </text>
          </g>
        ))}
        <rect class="band" x={LEFT} width={Math.max(0, width - LEFT)} y={y(difference.high)} height={Math.max(1, y(difference.low) - y(difference.high))} />
        <path class="fill-good" d={bars.better} />
        <path class="fill-bad" d={bars.worse} />
        <line class="mean" x1={LEFT} x2={width} y1={y(difference.mean)} y2={y(difference.mean)} />
        <line class="cursor" x1={x(cursor + 0.5)} x2={x(cursor + 0.5)} y1={TOP} y2={FLOOR} />
        <text x={(LEFT + width) / 2} y={HEIGHT - 6} text-anchor="middle">
          queries, sorted by their difference
        </text>
      </svg>
      <p class="chosen-row">
        <button type="button" class="button small" onClick={() => onOpen(query)} aria-label={`Compare answers to ${isolated(query.text)}`}>
          Compare
        </button>
        <span class="grow">{query.text}</span>
        <span class="number">
          <b>{signed(query.difference)}</b> ({a} {fixed(query.a)}, {b} {fixed(query.b)})
        </span>
      </p>
    </div>
  );
}

/** A finger only points: there is no hovering before a tap. The button below the chart opens. */
function isTouch(event: MouseEvent): boolean {
  return event instanceof PointerEvent && event.pointerType === "touch";
}

/** Where a key moves the cursor; null for other keys. */
function moved(key: string, cursor: number, size: number): number | null {
  const page = Math.max(1, Math.round(size / 10));
  const goals: Record<string, number> = {
    ArrowRight: cursor + 1,
    ArrowDown: cursor + 1,
    ArrowLeft: cursor - 1,
    ArrowUp: cursor - 1,
    PageDown: cursor + page,
    PageUp: cursor - page,
    Home: 0,
    End: size - 1,
  };
  const goal = goals[key];
  return goal === undefined ? null : Math.max(0, Math.min(size - 1, goal));
}

/** One path for all bars above 0 and one for those below: an element for each of 10,000 queries would be slow. */
function barPaths(sorted: readonly QueryRow[], x: (value: number) => number, y: (value: number) => number) {
  const edges = sorted.map((query) => query.difference);
  edges.push(edges[edges.length - 1] ?? 0);
  const path = (kept: (value: number) => number) =>
    area<number>()
      .curve(curveStepAfter)
      .x((_, index) => x(index))
      .y0(y(0))
      .y1((value) => y(kept(value)))(edges) ?? "";
  return { better: path((value) => Math.max(0, value)), worse: path((value) => Math.min(0, value)) };
}
