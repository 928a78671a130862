/** Text with marked places, counted in UTF-16 units. */
import type { ComponentChildren } from "preact";

export type Place = readonly [start: number, end: number];

function merged(places: readonly Place[], length: number): Place[] {
  const sorted = places
    .map(([start, end]): [number, number] => [Math.max(0, start), Math.min(length, end)])
    .filter(([start, end]) => start < end)
    .sort((one, other) => one[0] - other[0]);
  const result: [number, number][] = [];
  for (const place of sorted) {
    const last = result.at(-1);
    if (last && place[0] <= last[1]) last[1] = Math.max(last[1], place[1]);
    else result.push(place);
  }
  return result;
}

export function Marked({ text, places, from = 0, to = text.length }: { text: string; places: readonly Place[]; from?: number; to?: number }) {
  const out: ComponentChildren[] = [];
  let at = from;
  for (const [start, stop] of merged(places, text.length)) {
    if (stop <= from || start >= to) continue;
    const first = Math.max(start, from);
    const last = Math.min(stop, to);
    out.push(text.slice(at, first), <mark key={first}>{text.slice(first, last)}</mark>);
    at = last;
  }
  out.push(text.slice(at, to));
  return <>{out}</>;
}

const BEFORE = 80;

/** About `size` characters of the text: from the best passage on, or from a little before the first mark. */
export function Excerpt({ text, places, passage, size = 320 }: { text: string; places: readonly Place[]; passage?: Place | undefined; size?: number }) {
  const first = Math.min(...places.map(([start]) => start), text.length);
  const wanted = passage ? passage[0] : first > size - BEFORE && places.length ? first - BEFORE : 0;
  const from = wordStart(text, wanted);
  const to = from + size < text.length ? wordStart(text, from + size) : text.length;
  return (
    <>
      {from > 0 && "… "}
      <Marked text={text} places={places} from={from} to={to} />
      {to < text.length && " …"}
    </>
  );
}

/** The begin of the word at this place, if it is near; so no pair of surrogates is cut either. */
export function wordStart(text: string, place: number): number {
  const start = Math.max(0, Math.min(place, text.length));
  const cut = /\S{0,40}$/.exec(text.slice(0, start))?.[0].length ?? 0;
  return start - (cut < 40 ? cut : 0);
}

const UNSPACED = /^[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+$/;

/** Places of these words in the text, whatever their case: whole words, except in scripts without spaces. */
export function placesOf(text: string, words: readonly string[]): Place[] {
  const wanted = new Set(words.map((word) => word.toLocaleLowerCase()));
  const spaced = [...text.matchAll(/[\p{L}\p{N}_]+/gu)]
    .filter((match) => wanted.has(match[0].toLocaleLowerCase()))
    .map((match): Place => [match.index, match.index + match[0].length]);
  const unspaced = words.filter((word) => UNSPACED.test(word)).flatMap((word) => [...text.matchAll(new RegExp(word, "g"))].map((match): Place => [match.index, match.index + word.length]));
  return [...spaced, ...unspaced];
}
