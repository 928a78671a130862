/** Trials as dots, quality against time, with the front as a line; each dot can be picked by pointer or keys. */
import { scaleLinear, scaleLog } from "d3-scale";
import { curveStepAfter, line } from "d3-shape";

import { fixed, interval, milliseconds } from "../format";
import type { TrialRow } from "../answers";
import { useWidth } from "./width";

interface Props {
  trials: readonly TrialRow[];
  metric: string;
  picked: number;
  onPick: (index: number) => void;
  budget: number | null;
}

const HEIGHT = 330;
const LEFT = 48;
const TOP = 10;
const FLOOR = HEIGHT - 44;
const WIDE = 12; // the slowest takes so many times the fastest: a logarithmic axis

export function Pareto({ trials, metric, picked, onPick, budget }: Props) {
  const [frame, width] = useWidth<HTMLDivElement>();
  const narrow = width < 520;
  const { x, y, isLog } = scales(trials, budget, width);
  const front = trials.filter((trial) => trial.front).sort((one, other) => one.milliseconds - other.milliseconds);
  const path = line<TrialRow>()
    .curve(curveStepAfter)
    .x((trial) => x(trial.milliseconds))
    .y((trial) => y(trial.quality))(front);
  // From left to right, as the arrow keys go.
  const order = trials.map((_, index) => index).sort((one, other) => trials[one]!.milliseconds - trials[other]!.milliseconds);
  const pressed = (event: KeyboardEvent & { currentTarget: SVGSVGElement }) => {
    const goal = moved(event.key, order.indexOf(picked), order.length);
    if (goal === null) return;
    event.preventDefault();
    onPick(order[goal] ?? picked);
    event.currentTarget.querySelectorAll<SVGElement>("[role=radio]")[goal]?.focus();
  };
  const at = trials[picked];
  return (
    <div ref={frame}>
      <svg
        class="chart"
        role="radiogroup"
        aria-label={`Trials: ${metric} against milliseconds of the median query. Arrow keys pick a trial.`}
        width={width}
        height={HEIGHT}
        viewBox={`0 0 ${width} ${HEIGHT}`}
        onKeyDown={pressed}
      >
        <g aria-hidden="true">
          {y.ticks(5).map((tick) => (
            <g key={tick}>
              <line class="gridline" x1={LEFT} x2={width} y1={y(tick)} y2={y(tick)} />
              <text x={LEFT - 6} y={y(tick) + 4} text-anchor="end">
                {y.tickFormat(5)(tick)}
              </text>
            </g>
          ))}
          {thinned(round(x.ticks(narrow ? 3 : 6), isLog), narrow ? 4 : 8).map((tick) => (
            <g key={tick}>
              <line class="gridline" x1={x(tick)} x2={x(tick)} y1={TOP} y2={FLOOR} />
              <text x={x(tick)} y={FLOOR + 16} text-anchor="middle">
                {tick}
              </text>
            </g>
          ))}
          <text x={(LEFT + width) / 2} y={HEIGHT - 8} text-anchor="middle">
            {narrow ? "milliseconds" : "milliseconds of the median query"}
          </text>
          {budget !== null && (
            <g>
              <line class="budget" x1={x(budget)} x2={x(budget)} y1={TOP} y2={FLOOR} />
              <text x={x(budget) - 5} y={FLOOR - 6} text-anchor="end">
                budget
              </text>
            </g>
          )}
          {path && <path class="front" d={path} />}
          {at && <line class="whisker" x1={x(at.milliseconds)} x2={x(at.milliseconds)} y1={y(inside(at.low, y))} y2={y(inside(at.high, y))} />}
        </g>
        {order.map((index) => {
          const trial = trials[index]!;
          return (
            <g
              key={index}
              class={["trial", trial.front && "on-front", trial.present && "present", trial.chosen && "chosen"].filter(Boolean).join(" ")}
              role="radio"
              aria-checked={index === picked}
              aria-label={sayTrial(trial, metric)}
              tabindex={index === picked ? 0 : -1}
              onClick={() => onPick(index)}
            >
              <circle class="reach" cx={x(trial.milliseconds)} cy={y(trial.quality)} r={index === picked ? 12 : 9} />
              <circle class="mark" cx={x(trial.milliseconds)} cy={y(trial.quality)} r={trial.chosen || trial.present ? 7 : trial.front ? 5 : 3.5} />
            </g>
          );
        })}
      </svg>
    </div>
  );
}

function sayTrial(trial: TrialRow, metric: string): string {
  const place = `${trial.present ? ", present" : ""}${trial.chosen ? ", recommended" : trial.front ? ", on the front" : ""}`;
  const quality = `${fixed(trial.quality)} ${interval(trial.low, trial.high, fixed)}`;
  return `${trial.label}: ${metric} ${quality}, ${milliseconds(trial.milliseconds)}${place}`;
}

function scales(trials: readonly TrialRow[], budget: number | null, width: number) {
  const times = trials.map((trial) => trial.milliseconds).concat(budget === null ? [] : [budget]);
  const fastest = Math.max(0.01, Math.min(...times));
  const slowest = Math.max(...times, fastest * 1.2);
  const isLog = slowest / fastest > WIDE;
  const x = (isLog ? scaleLog() : scaleLinear())
    .domain([fastest * 0.9, slowest * 1.08])
    .range([LEFT + 6, width - 12]);
  const values = trials.map((trial) => trial.quality);
  const reach = Math.max(...values) - Math.min(...values) || 0.01;
  const y = scaleLinear()
    .domain([Math.min(...values) - 0.08 * reach, Math.max(...values) + 0.08 * reach])
    .range([FLOOR, TOP]);
  return { x, y, isLog };
}

function moved(key: string, place: number, size: number): number | null {
  const goals: Record<string, number> = {
    ArrowRight: place + 1,
    ArrowDown: place + 1,
    ArrowLeft: place - 1,
    ArrowUp: place - 1,
    Home: 0,
    End: size - 1,
  };
  const goal = goals[key];
  return goal === undefined ? null : Math.max(0, Math.min(size - 1, goal));
}

function inside(value: number, scale: { domain: () => number[] }): number {
  const [low = 0, high = 1] = scale.domain();
  return Math.max(low, Math.min(high, value));
}

/** On a logarithmic axis 1, 2, 5, 10 and so on; d3 gives every digit. */
function round(ticks: readonly number[], isLog: boolean): readonly number[] {
  return isLog ? ticks.filter((tick) => /^0?\.?0*[125]0*(e|$)/.test(String(tick))) : ticks;
}

function thinned(ticks: readonly number[], most: number): number[] {
  const step = Math.ceil(ticks.length / most);
  return ticks.filter((_, index) => index % step === 0);
}
