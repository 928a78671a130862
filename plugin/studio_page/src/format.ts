/** Numbers as people read them. */

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** Two significant figures below 10 ms, none after the point above. */
export function milliseconds(value: number): string {
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export function score(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-7) return value.toExponential(1);
  if (size !== 0 && size < 0.0001) return value.toFixed(1 - Math.floor(Math.log10(size))); // two figures
  return size >= 100 ? value.toFixed(1) : size >= 10 ? value.toFixed(2) : value.toFixed(4);
}

/** With its sign, unless it is shown as 0. */
export function signed(value: number, digits = 3): string {
  return `${Number(value.toFixed(digits)) > 0 ? "+" : ""}${fixed(value, digits)}`;
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  let left = value;
  while (left >= 1000 && step < units.length - 1) {
    left /= 1000;
    step += 1;
  }
  return `${step === 0 ? left : left.toFixed(left < 10 ? 1 : 0)} ${units[step]}`;
}

export function seconds(value: number): string {
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A value without a sign of its own, such as nDCG@10; a real minus where it is shown as below 0. */
export function fixed(value: number, digits = 3): string {
  return `${Number(value.toFixed(digits)) < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`;
}

/** With a capital, unless it begins with a name such as `dense.2`. */
export function sentenceCase(text: string): string {
  return /^([a-z-]+[,;]?( |$)|(passed|worse|undecided):)/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
}

/** Words of the server with a real minus, as in the tables, and real arrows; dates and values are not torn apart. */
export function typeset(text: string): string {
  return text
    .replace(/(^|[\s([])-(?=\d)/g, "$1−")
    .replaceAll(" -> ", " → ")
    .replaceAll(" p = ", " p\u00a0=\u00a0")
    .replace(/(\d{4})-(\d\d)-(\d\d) (\d\d:\d\d) UTC/g, "$1-\u2060$2-\u2060$3 $4\u00a0UTC");
}

/** A line of the server as a sentence of the page. */
export function sentence(text: string): string {
  const shown = typeset(text);
  return /[.!?]$/.test(shown) ? sentenceCase(shown) : `${sentenceCase(shown)}.`;
}

export function interval(low: number, high: number, write: (value: number) => string = signed): string {
  return `[${write(low)}, ${write(high)}]`;
}

/** A time of the collection's record as the server's sentences say it: `2026-11-25 04:10 UTC`. */
export function utc(when: string): string {
  const time = new Date(when);
  if (Number.isNaN(time.getTime())) return when || "at an unknown time";
  return `${time.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

export function percent(share: number): string {
  const shown = 100 * share;
  return `${shown > 0 && shown < 10 ? shown.toFixed(1) : shown.toFixed(0)}%`;
}

const OPENED: Readonly<Record<string, string>> = {
  "\u202a": "\u202c",
  "\u202b": "\u202c",
  "\u202d": "\u202c",
  "\u202e": "\u202c",
  "\u2066": "\u2069",
  "\u2067": "\u2069",
  "\u2068": "\u2069",
};

/** A stranger's text for the midst of another: signs in it that turn the direction of writing end with it. */
export function isolated(text: string): string {
  if (!/[\u202a-\u202e\u2066-\u2069]/.test(text)) return text;
  const open: string[] = [];
  let kept = "";
  for (const sign of text) {
    if (OPENED[sign]) open.push(OPENED[sign]);
    else if (sign === "\u202c" || sign === "\u2069") {
      if (open.at(-1) !== sign) continue; // it would end what surrounds the text
      open.pop();
    }
    kept += sign;
  }
  return `\u2068${kept}${open.reverse().join("")}\u2069`;
}
