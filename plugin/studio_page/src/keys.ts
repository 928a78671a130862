/** Keyboard shortcuts: a view registers its own, the help dialog lists all that hold now. */
import { useLayoutEffect } from "preact/hooks";

import { createStore } from "./store";

export interface Shortcut {
  /** As `KeyboardEvent.key` says it, or two in a row: "g c". */
  keys: string;
  label: string;
  /** Absent where the browser itself does it (Enter presses a button); listed in the help all the same. */
  run?: (event: KeyboardEvent) => void;
  /** Also while a text field has the focus (Escape). */
  typing?: boolean;
}

export const shortcuts = createStore<readonly Shortcut[]>([]);
let first = "";

function isTyping(target: EventTarget | null): boolean {
  const element = target instanceof Element ? target : null;
  return Boolean(element?.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]"));
}

/** A drop-down takes letters, to choose by; it has no use for these. */
function isForThePage(event: KeyboardEvent): boolean {
  return event.target instanceof HTMLSelectElement && (event.key === "/" || event.key === "?");
}

function pressed(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  const typing = isTyping(event.target) && !isForThePage(event);
  const modal = document.querySelector("dialog[open]") !== null;
  const pair = `${first} ${event.key}`;
  // A dialog closes itself by Escape, before what is behind it.
  const all = modal ? [] : shortcuts.get().filter((shortcut) => shortcut.run && (!typing || shortcut.typing));
  const found = all.findLast((shortcut) => shortcut.keys === pair) ?? all.findLast((shortcut) => shortcut.keys === event.key);
  first = typing || found ? "" : event.key;
  if (!found) return;
  event.preventDefault();
  found.run?.(event);
}

window.addEventListener("keydown", pressed);

/** Holds while the component is mounted. Later ones win over earlier ones with the same keys. */
export function useShortcuts(own: readonly Shortcut[], inputs: readonly unknown[]): void {
  // Before the browser paints: a key pressed at sight of a document must not be lost, nor grade the one before it.
  useLayoutEffect(() => {
    shortcuts.set([...shortcuts.get(), ...own]);
    return () => shortcuts.set(shortcuts.get().filter((shortcut) => !own.includes(shortcut)));
  }, inputs);
}
