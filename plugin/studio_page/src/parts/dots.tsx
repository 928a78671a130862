/** Rows of a dot with its interval on one axis: what was measured, and how sure it is. */
import { scaleLinear } from "d3-scale";

import { fixed, interval } from "../format";
import { useWidth } from "./width";

export interface Dot {
  key: string;
  label: string;
  /** A quieter line below the label. */
  detail?: string;
  mean: number;
  /** The interval; null where there is none. */
  low: number | null;
  high: number | null;
  tone: "a" | "b" | "better" | "worse" | "open";
}

interface Props {
  dots: readonly Dot[];
  axis: string;
  /** Keeps 0 on the axis, with a line: for differences. */
  zero?: boolean;
  /** The least that the axis shows. */
  across?: readonly [number, number];
  write?: (value: number) => string;
}

const ROW = 46;
const NARROW_ROW = 62; // the label stands above the dot
const BELOW = 40;

export function Dots({ dots, axis, zero = false, across, write = fixed }: Props) {
  const [frame, width] = useWidth<HTMLDivElement>();
  const narrow = width < 560;
  const row = narrow ? NARROW_ROW : ROW;
  const bottom = dots.length * row;
  const values = dots.flatMap((dot) => [dot.low ?? dot.mean, dot.high ?? dot.mean, dot.mean]).concat(zero ? [0] : [], across ?? []);
  const reach = Math.max(...values) - Math.min(...values) || 0.01;
  const from = narrow ? 10 : Math.min(260, Math.round(width * 0.34));
  const to = Math.max(from + 40, width - (narrow ? 10 : 176));
  const x = scaleLinear()
    .domain([Math.min(...values) - 0.05 * reach, Math.max(...values) + 0.05 * reach])
    .range([from, to]);
  const ticks = Math.max(2, Math.min(6, Math.floor((to - from) / 64)));
  const writeTick = x.tickFormat(ticks);
  const said = dots.map((dot) => `${dot.label}: ${write(dot.mean)} ${intervalOf(dot, write)}`).join("; ");
  return (
    <div ref={frame}>
      <svg class="chart" role="img" aria-label={`${axis}. ${said}`} width={width} height={bottom + BELOW} viewBox={`0 0 ${width} ${bottom + BELOW}`}>
        {x.ticks(ticks).map((tick) => (
          <g key={tick}>
            <line class={zero && tick === 0 ? "axis" : "gridline"} x1={x(tick)} x2={x(tick)} y1={2} y2={bottom + 4} />
            <text x={x(tick)} y={bottom + 18} text-anchor="middle">
              {writeTick(tick)}
            </text>
          </g>
        ))}
        <text x={(from + to) / 2} y={bottom + 35} text-anchor="middle">
          {axis}
        </text>
        {dots.map((dot, index) => (
          <Row key={dot.key} dot={dot} x={x} top={index * row} narrow={narrow} width={width} write={write} />
        ))}
      </svg>
    </div>
  );
}

interface RowProps {
  dot: Dot;
  x: (value: number) => number;
  top: number;
  narrow: boolean;
  width: number;
  write: (value: number) => string;
}

function Row({ dot, x, top, narrow, width, write }: RowProps) {
  const middle = narrow ? top + NARROW_ROW - 20 : top + ROW / 2;
  const baseline = narrow ? top + 20 : dot.detail ? middle - 3 : middle + 4;
  const letters = Math.floor((narrow ? width - 100 : Math.min(250, width * 0.34)) / 7);
  return (
    <g class={`tone-${dot.tone}`}>
      <text class="strong" x={narrow ? 10 : 0} y={baseline}>
        {shortened(dot.label, letters)}
      </text>
      {dot.detail && !narrow && (
        <text x={0} y={baseline + 16}>
          {shortened(dot.detail, letters)}
        </text>
      )}
      {dot.low !== null && dot.high !== null && (
        <>
          <line class="whisker" x1={x(dot.low)} x2={x(dot.high)} y1={middle} y2={middle} />
          <line class="whisker" x1={x(dot.low)} x2={x(dot.low)} y1={middle - 5} y2={middle + 5} />
          <line class="whisker" x1={x(dot.high)} x2={x(dot.high)} y1={middle - 5} y2={middle + 5} />
        </>
      )}
      <circle class="dot" cx={x(dot.mean)} cy={middle} r={6} />
      <text class="number" x={width - (narrow ? 10 : 0)} y={narrow ? baseline : middle + 4} text-anchor="end">
        <tspan class="strong">{write(dot.mean)}</tspan>
        {!narrow && ` ${intervalOf(dot, write)}`}
      </text>
    </g>
  );
}

function intervalOf({ low, high }: Dot, write: (value: number) => string): string {
  return low === null || high === null ? "" : interval(low, high, write);
}

function shortened(text: string, letters: number): string {
  return text.length > letters ? `${text.slice(0, Math.max(1, letters - 1))}…` : text;
}
