/** `useRequest`: asks the server when something changes, cancels what is no longer wanted, keeps the last answer meanwhile. */
import { useCallback, useEffect, useState } from "preact/hooks";

import { ApiError, keysGiven, openApi, type Api } from "./api";
import { useStore } from "./store";

export interface Answer<T> {
  data: T | null;
  error: ApiError | null;
  loading: boolean;
  /** Asks again with the same parameters. */
  reload: () => void;
}

interface Held<T> {
  data: T | null;
  error: ApiError | null;
  loading: boolean;
}

function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(error instanceof Error ? error.message : String(error), 0, "page");
}

/**
 * `ask` runs `delay` milliseconds after the last change of `inputs`; `null` asks nothing and clears the answer.
 * A run that a newer one replaces, or whose view is left, is aborted; its answer never shows.
 */
export function useRequest<T>(ask: ((api: Api) => Promise<T>) | null, inputs: readonly unknown[], delay = 0): Answer<T> {
  const [held, setHeld] = useState<Held<T>>({ data: null, error: null, loading: ask !== null });
  const [again, setAgain] = useState(0);
  const key = useStore(keysGiven);
  const wanted = ask !== null;

  useEffect(() => {
    if (!ask) {
      setHeld({ data: null, error: null, loading: false });
      return undefined;
    }
    const stop = new AbortController();
    setHeld((before) => ({ ...before, loading: true }));
    const timer = setTimeout(() => {
      ask(openApi(stop.signal)).then(
        (data) => !stop.signal.aborted && setHeld({ data, error: null, loading: false }),
        (error: unknown) => !stop.signal.aborted && setHeld({ data: null, error: asApiError(error), loading: false }),
      );
    }, delay);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
    // `ask` is new at each render; `inputs` say what it depends on.
  }, [...inputs.map((input) => (typeof input === "object" ? JSON.stringify(input) : input)), wanted, key, again]);

  return { ...held, reload: useCallback(() => setAgain((count) => count + 1), []) };
}
