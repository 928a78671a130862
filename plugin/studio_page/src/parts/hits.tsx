import { memo } from "preact/compat";

import { score } from "../format";
import type { Hit } from "../types/search";
import { Excerpt } from "./marked";
import { Thumbnail } from "./thumbnail";
import type { Group } from "./venn";

export interface HitListProps {
  side: "a" | "b";
  label: string;
  hits: readonly Hit[];
  /** Rank in the other answer, from 1; null without another side. */
  others: ReadonlyMap<string, number> | null;
  lit: Group | null;
  open: string | null;
  /** The hit that Tab reaches. */
  stop: string | null;
  onOpen: (id: string) => void;
  /** False for hits that an exported page cannot explain. */
  explains: (id: string) => boolean;
  onPoint: (id: string | null) => void;
}

/** Its title, else the first words of its text, else its id. */
export function titleOf(hit: { id: string; name: string }): string {
  return hit.name || hit.id;
}

/** One side's hits, best first. */
export function HitList({ side, label, hits, others, lit, open, stop, onOpen, explains, onPoint }: HitListProps) {
  const other = side === "a" ? "B" : "A";
  return (
    <ol class="hits" aria-label={`Hits of ${side.toUpperCase()}: ${label}`}>
      {hits.map((hit, at) => {
        const shared = others?.has(hit.id) ?? false;
        const shown = lit === null || (lit === "both" ? shared : lit === side && !shared);
        return (
          <HitItem
            key={hit.id}
            hit={hit}
            rank={at + 1}
            side={side}
            other={other}
            otherRank={others ? (others.get(hit.id) ?? null) : undefined}
            dim={!shown}
            open={open === hit.id}
            stop={stop === hit.id}
            onOpen={onOpen}
            held={explains(hit.id)}
            onPoint={onPoint}
          />
        );
      })}
    </ol>
  );
}

interface HitItemProps {
  hit: Hit;
  rank: number;
  side: "a" | "b";
  other: string;
  /** Undefined without another side, null where it is not among the other's hits. */
  otherRank: number | null | undefined;
  dim: boolean;
  open: boolean;
  stop: boolean;
  held: boolean;
  onOpen: (id: string) => void;
  onPoint: (id: string | null) => void;
}

const HitItem = memo(function HitItem({ hit, rank, side, other, otherRank, dim, open, stop, held, onOpen, onPoint }: HitItemProps) {
  const passage = hit.passages[0];
  return (
    <li
      class="hit"
      data-hit={hit.id}
      data-held={held || undefined}
      data-open={open || undefined}
      data-dim={dim || undefined}
      onMouseEnter={() => onPoint(hit.id)}
      onMouseLeave={() => onPoint(null)}
      onFocusCapture={() => onPoint(hit.id)}
      onClick={(event) => held && isPlainClick(event) && onOpen(hit.id)}
    >
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
              disabled={!held}
              title={held ? "Why is it here?" : "Its explanation is not in this file."}
              onClick={() => onOpen(hit.id)}
            >
              <span class="visually-hidden">Rank {rank}: </span>
              {titleOf(hit)}
            </button>
          </h3>
          <Move rank={rank} otherRank={otherRank} other={other} />
          <span class="muted small-text number" title="Score">
            {score(hit.score)}
          </span>
        </div>
        {titleOf(hit) !== hit.id && <p class="hit-id mono muted">{hit.id}</p>}
        <div class="hit-content">
          {hit.thumbnail && <Thumbnail path={hit.thumbnail} alt={titleOf(hit)} />}
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

/** The whole card explains, but text of it can be selected, and what has an action of its own keeps it. */
function isPlainClick(event: MouseEvent): boolean {
  if (event.target instanceof Element && event.target.closest("button, a, summary, input")) return false;
  return !getSelection()?.toString();
}

/** Where the document stands in the other answer. */
function Move({ rank, otherRank, other }: { rank: number; otherRank: number | null | undefined; other: string }) {
  if (otherRank === undefined) return null;
  if (otherRank === null) {
    return (
      <span class="tag" data-side={other === "B" ? "a" : "b"}>
        not in {other}
      </span>
    );
  }
  const sign = otherRank === rank ? "=" : otherRank < rank ? "↑" : "↓";
  const spoken = otherRank === rank ? "same rank" : `rank ${otherRank}`;
  return (
    <span class="tag number">
      <span aria-hidden="true">
        {other} {sign} {otherRank}
      </span>
      <span class="visually-hidden">
        {spoken} in {other}
      </span>
    </span>
  );
}
