/** Text with marked places. Places are counted in code points, as Python counts, and JavaScript's strings are not. */
import type { ComponentChildren } from "preact";

export type Place = readonly [start: number, end: number];

function merged(places: readonly Place[], length: number): Place[] {
  const sorted = places
    .map(([start, end]): Place => [Math.max(0, start), Math.min(length, end)])
    .filter(([start, end]) => start < end)
    .sort((one, other) => one[0] - other[0]);
  const result: [number, number][] = [];
  for (const [start, end] of sorted) {
    const last = result.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else result.push([start, end]);
  }
  return result;
}

export function Marked({ text, places, from = 0, to }: { text: string; places: readonly Place[]; from?: number; to?: number }) {
  if (!places.length && from === 0 && to === undefined) return <>{text}</>;
  const points = Array.from(text);
  const end = Math.min(to ?? points.length, points.length);
  const slice = (start: number, stop: number) => points.slice(start, stop).join("");
  const out: ComponentChildren[] = [];
  let at = from;
  for (const [start, stop] of merged(places, points.length)) {
    if (stop <= from || start >= end) continue;
    const first = Math.max(start, from);
    out.push(slice(at, first), <mark key={first}>{slice(first, Math.min(stop, end))}</mark>);
    at = Math.min(stop, end);
  }
  out.push(slice(at, end));
  return <>{out}</>;
}

/** A stretch of about `size` characters of the text with the first mark in it, or the best passage. */
export function Excerpt({ text, places, passage, size = 320 }: { text: string; places: readonly Place[]; passage?: Place | undefined; size?: number }) {
  const length = Array.from(text).length;
  const first = passage?.[0] ?? Math.max(0, Math.min(...places.map(([start]) => start), length) - 80);
  const from = !passage && (length <= size || !places.length) ? 0 : snap(text, first);
  const to = Math.min(length, Math.max(passage?.[1] ?? 0, from + size));
  return (
    <>
      {from > 0 && "… "}
      <Marked text={text} places={places} from={from} to={to} />
      {to < length && " …"}
    </>
  );
}

/** The begin of the word at this place. */
function snap(text: string, place: number): number {
  const points = Array.from(text);
  let at = place;
  while (at > 0 && place - at < 24 && !/\s/.test(points[at - 1] ?? " ")) at -= 1;
  return at;
}

/** Places of these words in the text, whole words only, whatever their case. */
export function placesOf(text: string, words: readonly string[]): Place[] {
  const wanted = new Set(words.map((word) => word.toLocaleLowerCase()));
  const places: Place[] = [];
  let units = 0;
  let points = 0;
  for (const match of text.matchAll(/[\p{L}\p{N}_]+/gu)) {
    points += Array.from(text.slice(units, match.index)).length;
    const length = Array.from(match[0]).length;
    if (wanted.has(match[0].toLocaleLowerCase())) places.push([points, points + length]);
    points += length;
    units = match.index + match[0].length;
  }
  return places;
}
