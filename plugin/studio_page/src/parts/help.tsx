import { shortcuts } from "../keys";
import { hashOf, lastParams, useRoute } from "../state";
import { useStore } from "../store";
import { VIEWS } from "../views";
import { Dialog } from "./dialog";

/** How a key is drawn, and how it is said. */
const SIGNS: Readonly<Record<string, readonly [string, string]>> = {
  ArrowDown: ["↓", "Arrow down"],
  ArrowUp: ["↑", "Arrow up"],
  ArrowLeft: ["←", "Arrow left"],
  ArrowRight: ["→", "Arrow right"],
  Escape: ["Esc", "Escape"],
  "/": ["/", "Slash"],
  "?": ["?", "Question mark"],
};

/** Keys of a view that hold only while something of it is open: listed all the same, so that they can be found. */
const LATER: readonly [view: string, keys: string, label: string][] = [
  ["compare", "Escape", "Close the explanation"],
  ["judge", "0", "While judging, 0 to 3: the grade"],
  ["judge", "s", "While judging: skip this document"],
  ["judge", "u", "While judging: undo the last grade"],
];

/** What each view is for, and what each key does in the one that is open. */
export function HelpDialog({ onClose }: { onClose: () => void }) {
  const all = useStore(shortcuts);
  const { view } = useRoute();
  const seen = new Map(all.map((shortcut) => [shortcut.keys, shortcut.label]));
  for (const [where, keys, label] of LATER) if (where === view && !seen.has(keys)) seen.set(keys, label);
  return (
    <Dialog title="Help" onClose={onClose}>
      <h3>Views</h3>
      <dl class="shortcuts">
        {VIEWS.map((one) => (
          <div key={one.name}>
            <dt>
              <a href={hashOf(one.name, lastParams(one.name))} aria-current={one.name === view ? "page" : undefined} onClick={onClose}>
                {one.label}
              </a>
            </dt>
            <dd>{one.purpose}</dd>
          </div>
        ))}
      </dl>
      <h3>Keys</h3>
      <dl class="shortcuts">
        {[...seen].map(([keys, label]) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((key) => (
                <kbd key={key}>
                  <span aria-hidden="true">{SIGNS[key]?.[0] ?? key}</span>
                  <span class="visually-hidden">{SIGNS[key]?.[1] ?? key}</span>
                </kbd>
              ))}
            </dt>
            <dd>{label}</dd>
          </div>
        ))}
      </dl>
      <p>
        <a href="./guide.html" target="_blank" rel="noreferrer">
          The guide
        </a>{" "}
        says more of each view, in another tab.
      </p>
      <p class="hint">Every view is a link: copy the address to share what you see.</p>
    </Dialog>
  );
}
