/**
 * The client of /studio/api: adds the key, turns error answers into ApiError, cancels with an AbortSignal.
 */
import { createStore } from "./store";

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
    readonly param: string | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** What one run of `useRequest` asks through. */
export interface Api {
  get<T>(path: string): Promise<T>;
  post<T>(path: string, body: unknown): Promise<T>;
  remove<T>(path: string): Promise<T>;
  /** A thumbnail as a data URL: `<img src>` could not send the key. */
  image(path: string): Promise<string>;
  readonly signal: AbortSignal;
}

const KEY = "diptych-studio-key";

function storedKey(): string {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

export const apiKey = createStore(storedKey());
/** True while the server refuses the key, or the lack of one: the shell asks for it. */
export const keyWanted = createStore(false);

/** Counts the keys that were given: what was refused is asked again, also with the same key. */
export const keysGiven = createStore(0);

export function giveKey(key: string): void {
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Kept in memory then, until the page is closed.
  }
  keyWanted.set(false);
  apiKey.set(key);
  keysGiven.set(keysGiven.get() + 1);
}

async function refusal(response: Response): Promise<ApiError> {
  let message = `The server answered ${response.status} ${response.statusText}.`;
  let code = "unknown";
  let param: string | null = null;
  try {
    const { error } = (await response.json()) as { error: { message: string; code?: string; type?: string; param?: string } };
    message = error.message;
    code = error.code ?? error.type ?? code;
    param = error.param ?? null;
  } catch {
    // Not the service's own answer (a proxy's): its status says what there is to say.
  }
  return new ApiError(message, response.status, code, param);
}

async function send(method: string, path: string, body: unknown, signal: AbortSignal | null): Promise<Response> {
  const headers: Record<string, string> = {};
  const key = apiKey.get();
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(`./api${path}`, {
      method,
      headers,
      signal,
      body: body === undefined ? null : JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("The server does not answer. Is `diptych studio` still running?", 0, "unreachable");
  }
  if (response.status === 401) keyWanted.set(true);
  if (!response.ok) throw await refusal(response);
  return response;
}

async function readJson<T>(response: Response): Promise<T> {
  return (await response.json()) as T;
}

async function dataUrl(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error ?? new Error("the picture could not be read"));
    reader.readAsDataURL(blob);
  });
}

/** A client whose requests end with `signal`. */
export function openApi(signal: AbortSignal): Api {
  return {
    signal,
    get: async <T>(path: string) => readJson<T>(await send("GET", path, undefined, signal)),
    post: async <T>(path: string, body: unknown) => readJson<T>(await send("POST", path, body, signal)),
    remove: async <T>(path: string) => readJson<T>(await send("DELETE", path, undefined, signal)),
    image: async (path) => dataUrl(await (await send("GET", path, undefined, signal)).blob()),
  };
}

/** One call that is an action of the user rather than what the view stands on (a grade, a rollback). */
export async function act<T>(method: "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
  return readJson<T>(await send(method, path, body, null));
}
