import { scaleLinear } from "d3-scale";

import { count, score } from "../format";
import type { ExplainedDocument, Leg, ScorePart } from "../answers";

/** The colour of each part's name, the same in all bars of a panel. */
export function coloursOf(lists: readonly (readonly ScorePart[])[]): ReadonlyMap<string, number> {
  const names = [...new Set(lists.flatMap((parts) => parts.map((part) => part.name)))];
  return new Map(names.map((name, at) => [name, (at % 8) + 1]));
}

/** From the least to the greatest end of the bars, zero included. */
export function extentOf(lists: readonly (readonly ScorePart[])[]): [number, number] {
  const ends = lists.flatMap((parts) => [
    parts.reduce((sum, part) => sum + Math.min(0, part.value), 0),
    parts.reduce((sum, part) => sum + Math.max(0, part.value), 0),
  ]);
  return [Math.min(0, ...ends), Math.max(0, ...ends) || 1];
}

export function sumOf(parts: readonly ScorePart[]): number {
  return parts.reduce((sum, part) => sum + part.value, 0);
}

interface ScoreBarProps {
  parts: readonly ScorePart[];
  colours: ReadonlyMap<string, number>;
  extent: [number, number];
  label: string;
}

const WIDTH = 400;
const HEIGHT = 22;

/** A stacked bar whose parts sum to the score; negative parts go left from zero. */
export function ScoreBar({ parts, colours, extent, label }: ScoreBarProps) {
  const x = scaleLinear().domain(extent).range([0, WIDTH]);
  let up = 0;
  let down = 0;
  const boxes = parts.map((part) => {
    const from = part.value < 0 ? down + part.value : up;
    if (part.value < 0) down += part.value;
    else up += part.value;
    return { part, left: x(from), width: Math.abs(x(part.value) - x(0)) };
  });
  const said = parts.map((part) => `${part.name} ${score(part.value)}`).join(", ");
  return (
    <svg class="scorebar" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${label}: ${score(sumOf(parts))} = ${said}`}>
      {boxes.map(({ part, left, width }) => (
        <rect key={part.name} class={`part-${colours.get(part.name) ?? 8}`} x={left} y={2} width={Math.max(0, width - (width > 3 ? 1 : 0))} height={HEIGHT - 4} rx={2}>
          <title>
            {part.name}: {score(part.value)}
          </title>
        </rect>
      ))}
      <line class="axis" x1={x(0)} x2={x(0)} y1={0} y2={HEIGHT} />
    </svg>
  );
}

export interface Scored {
  parts: readonly ScorePart[];
  score: number | null;
  legs: readonly Leg[];
  why: ExplainedDocument | null;
}

/** The parts as a table, each with its words and its rank in the slot; beside those of another document. */
export function PartsTable({ mine, theirs, colours }: { mine: Scored; theirs?: Scored | undefined; colours: ReadonlyMap<string, number> }) {
  const names = [...new Set([...mine.parts, ...(theirs?.parts ?? [])].map((part) => part.name))];
  return (
    <table class="table parts">
      <caption class="visually-hidden">Parts of the score</caption>
      <thead class={theirs ? "" : "visually-hidden"}>
        <tr>
          <th scope="col">Part</th>
          <th scope="col" class="right">
            this
          </th>
          {theirs && (
            <th scope="col" class="right">
              other
            </th>
          )}
        </tr>
      </thead>
      <tbody>
        {names.map((name) => {
          const words = wordsOf(mine, theirs, name);
          return (
            <tr key={name}>
              <td>
                <span class={`swatch part-${colours.get(name) ?? 8}`} aria-hidden="true" /> {name}
                {words.length > 0 && <Words words={words} own={[mine, ...(theirs ? [theirs] : [])].map((scored) => ownScore(scored, name))} />}
              </td>
              <Value scored={mine} name={name} />
              {theirs && <Value scored={theirs} name={name} />}
            </tr>
          );
        })}
      </tbody>
      <tfoot>
        <tr>
          <th scope="row">Score</th>
          <td class="right">
            <b>{mine.score === null ? "–" : score(mine.score)}</b>
          </td>
          {theirs && <td class="right">{theirs.score === null ? "–" : score(theirs.score)}</td>}
        </tr>
      </tfoot>
    </table>
  );
}

function Value({ scored, name }: { scored: Scored; name: string }) {
  const part = scored.parts.find((one) => one.name === name);
  const leg = part?.kind === "slot" ? scored.legs.find((one) => one.slot === name) : undefined;
  return (
    <td class="right">
      {part ? score(part.value) : "–"}
      {leg && <div class="muted small-text">{rankOf(leg)}</div>}
    </td>
  );
}

function rankOf(leg: Leg): string {
  if (!leg.candidate) return `not among the ${count(leg.candidates)} candidates`;
  return leg.rank === null ? "" : `rank ${count(leg.rank)}`;
}

interface WordValue {
  word: string;
  mine: number | undefined;
  other: number | undefined;
}

/** The words of a slot that match in either document, those of the first before the other's. */
function wordsOf(mine: Scored, theirs: Scored | undefined, name: string): WordValue[] {
  const [own, others] = [mine, theirs].map((scored) => {
    const isSlot = scored?.parts.some((part) => part.name === name && part.kind === "slot");
    return new Map(isSlot ? scored?.why?.slots[name]?.terms.map(({ word, contribution }) => [word, contribution]) : []);
  });
  return [...new Set([...own!.keys(), ...others!.keys()])].map((word) => ({ word, mine: own!.get(word), other: others!.get(word) }));
}

/** The score that the slot itself gives, before the fusion normalises it or takes its rank: what the words add up to. */
function ownScore(scored: Scored, name: string): number | undefined {
  return scored.legs.find((leg) => leg.slot === name)?.score ?? undefined;
}

/** `own`: the slot's own score of this document, and of the other where there is one. */
function Words({ words, own }: { words: readonly WordValue[]; own: readonly (number | undefined)[] }) {
  const two = own.length > 1;
  const said = `Matched words and what each adds to the slot's score before fusion${two ? ", in this document / in the other" : ""}`;
  const shown = (value: number | undefined) => (value === undefined ? "–" : score(value));
  return (
    <>
      <p class="words-of muted small-text">
        Score before fusion <span class="number">{own.map(shown).join(" / ")}</span>, by word:
      </p>
      <ul class="words" aria-label={said} title={said}>
        {words.slice(0, 12).map(({ word, mine, other }) => (
          <li key={word}>
            <mark>{word}</mark>{" "}
            <span class="muted number">
              {shown(mine)}
              {two && ` / ${shown(other)}`}
            </span>
          </li>
        ))}
        {words.length > 12 && <li class="muted">and {words.length - 12} more</li>}
      </ul>
    </>
  );
}
