import { shortcuts } from "../keys";
import { useStore } from "../store";
import { Dialog } from "./dialog";

const ARROWS: Readonly<Record<string, string>> = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→" };

/** What each key does in the view that is open. */
export function HelpDialog({ onClose }: { onClose: () => void }) {
  const all = useStore(shortcuts);
  const seen = new Map(all.map((shortcut) => [shortcut.keys, shortcut.label]));
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
