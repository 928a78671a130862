/** What a sighted user sees change is said to screen readers here; `toast` shows it for some seconds too. */
import { route } from "../state";
import { createStore, useStore } from "../store";

const spoken = createStore("");
const shown = createStore<{ text: string; kind: "good" | "error" } | null>(null);
let hide: ReturnType<typeof setTimeout> | undefined;
let again: ReturnType<typeof setTimeout> | undefined;

/** What was said of one view is not read in another. Followed here, since it is before the new view says anything. */
let place = placeShown();
route.follow(() => {
  if (placeShown() === place) return;
  place = placeShown();
  clearTimeout(again);
  spoken.set("");
});

function placeShown(): string {
  const { view, params } = route.get();
  return `${view} ${params.collection ?? ""}`;
}

export function announce(text: string): void {
  clearTimeout(again);
  if (spoken.get() !== text) return spoken.set(text);
  spoken.set("");
  again = setTimeout(() => spoken.set(text), 50); // the same text twice in a row is read twice
}

/** Returns what takes this toast away early, once it no longer holds; one that has come after it stays. */
export function toast(text: string, kind: "good" | "error" = "good"): () => void {
  announce(text);
  const message = { text, kind };
  const takeAway = () => {
    if (shown.get() === message) shown.set(null);
  };
  shown.set(message);
  clearTimeout(hide);
  hide = setTimeout(takeAway, kind === "error" ? 8000 : 3500);
  return takeAway;
}

export function Announcer() {
  const text = useStore(spoken);
  const message = useStore(shown);
  return (
    <>
      <div class="visually-hidden" role="status" aria-live="polite">
        {text}
      </div>
      {message && (
        <div class="toast" data-kind={message.kind} aria-hidden="true">
          {message.text}
        </div>
      )}
    </>
  );
}
