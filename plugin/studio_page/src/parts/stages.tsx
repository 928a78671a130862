import { milliseconds } from "../format";
import type { Found } from "../answers";

/** The time of a search: a bar of its stages, and the same in words. */
export function Stages({ total, seconds }: { total: number; seconds: Found["seconds"] }) {
  const stages = Object.entries(seconds).map(([name, time]) => ({ name, milliseconds: 1000 * time }));
  const sum = Math.max(
    total,
    stages.reduce((all, stage) => all + stage.milliseconds, 0),
  );
  return (
    <details class="stages">
      <summary>
        <span class="visually-hidden">Time of each stage; in all </span>
        <span class="number">{milliseconds(total)}</span>
      </summary>
      <div class="stages-body">
        <div class="bar" aria-hidden="true">
          {stages.map((stage, at) => (
            <span
              key={stage.name}
              class={`part-${(at % 8) + 1}`}
              ref={(element) => {
                if (element) element.style.width = `${sum ? (100 * stage.milliseconds) / sum : 0}%`;
              }}
            />
          ))}
        </div>
        <ul class="legend">
          {stages.map((stage, at) => (
            <li key={stage.name}>
              <span class={`swatch part-${(at % 8) + 1}`} aria-hidden="true" />
              {stage.name} <span class="muted number">{milliseconds(stage.milliseconds)}</span>
            </li>
          ))}
        </ul>
      </div>
    </details>
  );
}
