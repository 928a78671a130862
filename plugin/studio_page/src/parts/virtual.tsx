/** A list of any length of which only the rows in sight are in the document; arrow keys, Page, Home, End and Enter. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";

interface Props<Row> {
  label: string;
  rows: readonly Row[];
  rowKey: (row: Row) => string;
  /** What is said of a row. */
  say: (row: Row) => string;
  draw: (row: Row) => ComponentChildren;
  rowHeight: number;
  onOpen: (row: Row) => void;
  /** Names the rows and their order: whoever comes back to the same finds the place where they left. */
  memory: string;
}

const BEYOND = 8; // rows drawn above and below those in sight
const places = new Map<string, { top: number; active: number }>();
const ANY = "*";
let opened = ""; // the list from which a row was opened last: who comes back goes on there

/** The next list that is shown takes the focus: somebody goes to it. */
export function goToList(): void {
  opened = ANY;
}

export function VirtualList<Row>({ label, rows, rowKey, say, draw, rowHeight, onOpen, memory }: Props<Row>) {
  const frame = useRef<HTMLDivElement>(null);
  const name = useId();
  const [first, setFirst] = useState(0);
  const [inSight, setInSight] = useState(20);
  const [active, setActive] = useState(0);
  const now = useRef(0); // `active` before the next render: keys may come faster

  useEffect(() => {
    const element = frame.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setInSight(Math.ceil(element.clientHeight / rowHeight) + 1));
    observer.observe(element);
    return () => observer.disconnect();
  }, [rowHeight]);

  useLayoutEffect(() => {
    const place = places.get(memory) ?? { top: 0, active: 0 };
    if (frame.current) frame.current.scrollTop = place.top;
    setFirst(Math.floor(place.top / rowHeight));
    now.current = Math.min(place.active, Math.max(0, rows.length - 1));
    setActive(now.current);
    if ((opened === memory || opened === ANY) && rows.length > 0) {
      opened = "";
      frame.current?.focus({ preventScroll: true });
    }
  }, [memory, rows]);
  const open = (row: Row) => {
    opened = memory;
    onOpen(row);
  };

  const scrolled = () => {
    if (!frame.current) return;
    const top = frame.current.scrollTop;
    setFirst(Math.floor(top / rowHeight));
    places.set(memory, { top, active: now.current });
  };
  const choose = (index: number) => {
    const next = Math.max(0, Math.min(rows.length - 1, index));
    now.current = next;
    setActive(next);
    const element = frame.current;
    if (!element) return;
    const bottom = (next + 1) * rowHeight - element.clientHeight;
    if (next * rowHeight < element.scrollTop) element.scrollTop = next * rowHeight;
    else if (bottom > element.scrollTop) element.scrollTop = bottom;
    places.set(memory, { top: element.scrollTop, active: next });
  };
  const pressed = (event: KeyboardEvent) => {
    const page = Math.max(1, inSight - 2);
    const goals: Record<string, number> = {
      ArrowDown: now.current + 1,
      ArrowUp: now.current - 1,
      PageDown: now.current + page,
      PageUp: now.current - page,
      Home: 0,
      End: rows.length - 1,
    };
    const goal = goals[event.key];
    const row = rows[now.current];
    if (goal !== undefined) choose(goal);
    else if ((event.key === "Enter" || event.key === " ") && row) open(row);
    else return;
    event.preventDefault();
  };

  const from = Math.max(0, first - BEYOND);
  const shown = rows.slice(from, first + inSight + BEYOND);
  const isDrawn = active >= from && active < from + shown.length;
  return (
    <div
      ref={frame}
      class="virtual"
      role="listbox"
      aria-label={label}
      tabIndex={0}
      aria-activedescendant={isDrawn ? `${name}-${active}` : undefined}
      onScroll={scrolled}
      onKeyDown={pressed}
    >
      <div class="virtual-all" role="presentation" style={{ height: `${rows.length * rowHeight}px` }}>
        {shown.map((row, place) => {
          const index = from + place;
          return (
            <div
              key={rowKey(row)}
              id={`${name}-${index}`}
              class="virtual-row"
              role="option"
              aria-selected={index === active}
              aria-posinset={index + 1}
              aria-setsize={rows.length}
              aria-label={say(row)}
              style={{ top: `${index * rowHeight}px`, height: `${rowHeight}px` }}
              onClick={() => {
                choose(index);
                open(row);
              }}
            >
              {draw(row)}
            </div>
          );
        })}
      </div>
    </div>
  );
}
