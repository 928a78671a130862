import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

export interface DialogProps {
  title: string;
  /** Called by Escape, the button, a click beside it. */
  onClose: () => void;
  /** Without a way out: what it asks for is needed. */
  closable?: boolean;
  wide?: boolean;
  children: ComponentChildren;
}

/** A modal dialog: the browser keeps the focus inside, first on what is marked `data-first`, and gives it back. */
export function Dialog({ title, onClose, closable = true, wide = false, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    dialog.current?.querySelector<HTMLElement>("[data-first]")?.focus();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={wide ? "dialog dialog-wide" : "dialog"}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        if (closable) onClose();
      }}
      onClick={(event) => {
        if (closable && event.target === dialog.current) onClose();
      }}
    >
      <div class="dialog-body">
        <header class="row between">
          <h2 id={heading}>{title}</h2>
          {closable && (
            <button class="button quiet" type="button" onClick={onClose} aria-label="Close">
              ✕
            </button>
          )}
        </header>
        {children}
      </div>
    </dialog>
  );
}
