/** How far two answers agree: only A, both, only B, as parts of one bar. */

export type Group = "a" | "both" | "b";

export interface Overlap {
  a: string[];
  both: string[];
  b: string[];
}

export function overlapOf(a: readonly string[], b: readonly string[]): Overlap {
  const inA = new Set(a);
  const inB = new Set(b);
  return { a: a.filter((id) => !inB.has(id)), both: a.filter((id) => inB.has(id)), b: b.filter((id) => !inA.has(id)) };
}

export function Venn({ overlap, lit, onLit }: { overlap: Overlap; lit: Group | null; onLit: (group: Group | null) => void }) {
  const groups: { group: Group; label: string; count: number }[] = [
    { group: "a", label: "only A", count: overlap.a.length },
    { group: "both", label: "both", count: overlap.both.length },
    { group: "b", label: "only B", count: overlap.b.length },
  ];
  return (
    <div class="venn" role="group" aria-label="Overlap of the two answers; a part shows its documents">
      {groups
        .filter(({ count }) => count > 0)
        .map(({ group, label, count }) => (
          <button
            key={group}
            type="button"
            class="venn-part"
            data-group={group}
            aria-pressed={lit === group}
            ref={(element) => {
              if (element) element.style.flexGrow = String(count);
            }}
            onClick={() => onLit(lit === group ? null : group)}
          >
            <b class="number">{count}</b> {label}
          </button>
        ))}
    </div>
  );
}
