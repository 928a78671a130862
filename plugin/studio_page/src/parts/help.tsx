import { shortcuts } from "../keys";
import { useRoute } from "../state";
import { useStore } from "../store";
import { Dialog } from "./dialog";

const ARROWS: Readonly<Record<string, string>> = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };

/** Keys of a view that hold only while something of it is open: listed all the same, so that they can be found. */
const LATER: readonly [view: string, keys: string, label: string][] = [
  ["compare", "Escape", "Close the explanation"],
  ["judge", "0", "While judging, 0 to 3: the grade"],
  ["judge", "s", "While judging: skip this document"],
  ["judge", "u", "While judging: undo the last grade"],
];

/** What each key does in the view that is open. */
export function HelpDialog({ onClose }: { onClose: () => void }) {
  const all = useStore(shortcuts);
  const { view } = useRoute();
  const seen = new Map(all.map((shortcut) => [shortcut.keys, shortcut.label]));
  for (const [where, keys, label] of LATER) if (where === view && !seen.has(keys)) seen.set(keys, label);
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl class="shortcuts">
        {[...seen].map(([keys, label]) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((key) => (
                <kbd key={key}>
                  <span aria-hidden="true">{ARROWS[key] ?? key}</span>
                  <span class="visually-hidden">{key}</span>
                </kbd>
              ))}
            </dt>
            <dd>{label}</dd>
          </div>
        ))}
      </dl>
      <p class="hint">
        Every view is a link: copy the address to share what you see. Guides: <code>docs/studio.md</code>.
      </p>
    </Dialog>
  );
}
