/** Sentences to the user: errors, hints, empty views. */
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { ApiError } from "../api";

export function Notice({ kind = "hint", children }: { kind?: "hint" | "good" | "warning" | "error"; children: ComponentChildren }) {
  return (
    <div class="notice" data-kind={kind} role={kind === "error" ? "alert" : undefined}>
      {children}
    </div>
  );
}

/** An error of the server, in its own words, and a way to try again. */
export function Failure({ error, again }: { error: ApiError; again?: (() => void) | undefined }) {
  return (
    <Notice kind="error">
      <p>{error.message}</p>
      {again && mayPass(error) && (
        <button class="button" type="button" onClick={again}>
          Try again
        </button>
      )}
    </Notice>
  );
}

/** Whether the same request may be answered later: the server was away, busy, or failed. */
function mayPass(error: ApiError): boolean {
  return error.status === 0 || error.status === 408 || error.status === 429 || error.status >= 500;
}

/** Says that there is nothing, and what to do about it. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div class="muted">{children}</div>}
    </div>
  );
}

/** A bar under the heading of what is being loaded; the text is for screen readers. */
export function Loading({ label }: { label: string }) {
  return (
    <div class="loading" role="status">
      <span class="loading-bar" aria-hidden="true" />
      <span class="visually-hidden">{label}</span>
    </div>
  );
}

const LATE = 2500; // milliseconds of waiting after which people ask why

/** What may take so long, once it does; nothing before. */
export function Late({ children }: { children: ComponentChildren }) {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), LATE);
    return () => clearTimeout(timer);
  }, []);
  return late ? <p class="hint late">{children}</p> : null;
}
