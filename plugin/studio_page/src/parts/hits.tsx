/** One side's hits as cards. What stands beside a title comes later than the hits, so it is no prop of a card: only it is drawn again. */
import { createContext } from "preact";
import { memo } from "preact/compat";
import { useContext } from "preact/hooks";

import { isolated, score } from "../format";
import type { ShownHit } from "../answers";
import { Excerpt } from "./marked";
import { Thumbnail } from "./thumbnail";
import type { Group } from "./venn";

/** What the other side and the judgements say of a column's hits. */
export interface Beside {
  /** Rank in the other answer, from 1; null without another side. */
  others: ReadonlyMap<string, number> | null;
  /** By document; empty where the query is not judged. */
  grades: Readonly<Record<string, number>>;
}

export const BesideHits = createContext<Beside>({ others: null, grades: {} });

export interface HitListProps {
  side: "a" | "b";
  label: string;
  hits: readonly ShownHit[];
  lit: Group | null;
  /** The documents of the other answer, while some are lit. */
  shared: ReadonlyMap<string, number> | null;
  open: string | null;
  /** The hit that Tab reaches. */
  stop: string | null;
  onOpen: (id: string) => void;
  onPoint: (id: string | null) => void;
}

/** Its title, else the first words of its text, else its id. */
export function titleOf(hit: { id: string; name: string }): string {
  return isolated(hit.name || hit.id);
}

/** The same, with the id where another of these documents has the same title. */
export function distinctTitle(hit: { id: string; name: string }, among: readonly { id: string; name: string }[]): string {
  const isShared = hit.name !== "" && among.some((other) => other.id !== hit.id && other.name === hit.name);
  return isShared ? `${titleOf(hit)} (${isolated(hit.id)})` : titleOf(hit);
}

/** One side's hits, best first. The list listens for all of its cards: a listener for each would cost more than the card. */
export const HitList = memo(function HitList({ side, label, hits, lit, shared, open, stop, onOpen, onPoint }: HitListProps) {
  const pressed = (event: MouseEvent) => {
    const id = hitAt(event.target);
    if (id !== null && isForTheCard(event)) onOpen(id);
  };
  return (
    <ol
      class="hits"
      aria-label={`Hits of ${side.toUpperCase()}: ${label}`}
      onClick={pressed}
      onMouseOver={(event) => onPoint(hitAt(event.target))}
      onMouseLeave={() => onPoint(null)}
      onFocusCapture={(event) => onPoint(hitAt(event.target))}
    >
      {hits.map((hit, at) => {
        const isShared = shared?.has(hit.id) ?? false;
        const shown = lit === null || (lit === "both" ? isShared : lit === side && !isShared);
        return (
          <HitItem
            key={hit.id}
            hit={hit}
            rank={at + 1}
            side={side}
            dim={!shown}
            open={open === hit.id}
            stop={stop === hit.id}
          />
        );
      })}
    </ol>
  );
});

function hitAt(target: EventTarget | null): string | null {
  return target instanceof Element ? (target.closest<HTMLElement>("[data-hit]")?.dataset.hit ?? null) : null;
}

/** The title explains, and so does the whole card; but text of it can be selected, and what has an action of its own keeps it. */
function isForTheCard(event: MouseEvent): boolean {
  const control = event.target instanceof Element ? event.target.closest("button, a, summary, input") : null;
  return control ? control.matches(".hit-title") : !getSelection()?.toString();
}

interface HitItemProps {
  hit: ShownHit;
  rank: number;
  side: "a" | "b";
  dim: boolean;
  open: boolean;
  stop: boolean;
}

const HitItem = memo(function HitItem({ hit, rank, side, dim, open, stop }: HitItemProps) {
  const passage = hit.passages[0];
  const title = titleOf(hit);
  return (
    <li class="hit" data-hit={hit.id} data-open={open || undefined} data-dim={dim || undefined}>
      <span class="rank number" data-side={side} aria-hidden="true">
        {rank}
      </span>
      <div class="hit-body">
        <div class="hit-head">
          <h3 class="hit-heading">
            <button
              type="button"
              class="hit-title"
              tabIndex={stop ? 0 : -1}
              aria-expanded={open}
              title="Why is it here?"
            >
              <span class="visually-hidden">Rank {rank}: </span>
              {title}
            </button>
          </h3>
          {hit.name && hit.name !== hit.id && <p class="hit-id mono muted">{hit.id}</p>}
          <div class="hit-marks">
            <Marks id={hit.id} rank={rank} other={side === "a" ? "B" : "A"} />
            <span class="muted small-text number" title="Score">
              {score(hit.score)}
            </span>
          </div>
        </div>
        <div class="hit-content">
          {hit.thumbnail && <Thumbnail path={hit.thumbnail} alt={title} />}
          {hit.text && (
            <p class="hit-text">
              <Excerpt text={hit.text} places={hit.highlights} passage={passage && [passage.start - hit.text_start, passage.end - hit.text_start]} />
            </p>
          )}
        </div>
      </div>
    </li>
  );
});

/** How the document was judged, and where it stands in the other answer. */
function Marks({ id, rank, other }: { id: string; rank: number; other: string }) {
  const { others, grades } = useContext(BesideHits);
  const grade = grades[id];
  return (
    <>
      {grade !== undefined && <GradeTag grade={grade} />}
      {others && <Move rank={rank} otherRank={others.get(id)} other={other} />}
    </>
  );
}

export function GradeTag({ grade }: { grade: number }) {
  return (
    <span class="tag grade-tag" data-kind={grade > 0 ? "good" : undefined} title={`Judged with grade ${grade}`}>
      {grade > 0 ? `✓ relevant (${grade})` : "not relevant"}
    </span>
  );
}

/** Where the document stands in the other answer. */
function Move({ rank, otherRank, other }: { rank: number; otherRank: number | undefined; other: string }) {
  if (otherRank === undefined) {
    return (
      <span class="tag move" data-side={other === "B" ? "a" : "b"}>
        not in {other}
      </span>
    );
  }
  const sign = otherRank === rank ? "=" : otherRank < rank ? "↑" : "↓";
  return (
    <span class="tag number move" role="img" aria-label={`${otherRank === rank ? "same rank" : `rank ${otherRank}`} in ${other}`}>
      {other} {sign} {otherRank}
    </span>
  );
}
