/**
 * The client of /studio/api: adds the key, turns error answers into ApiError, cancels with an AbortSignal.
 *
 * Answers are remembered under "METHOD path body", so that an exported page can give the same answers without a server.
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

/** What one run of `useRequest` asks through; it notes which answers the view stands on. */
export interface Api {
  get<T>(path: string): Promise<T>;
  post<T>(path: string, body: unknown): Promise<T>;
  remove<T>(path: string): Promise<T>;
  /** A thumbnail as a data URL: `<img src>` could not send the key. */
  image(path: string): Promise<string>;
  readonly signal: AbortSignal;
}

/** What POST /export puts into the page: the view's hash and its answers. */
export interface Exported {
  hash: string;
  made: string;
  answers: Record<string, unknown>;
}

const KEY = "diptych-studio-key";
const answers = new Map<string, unknown>();
const live = new Map<object, Set<string>>();

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

function readExported(): Exported | null {
  const element = document.getElementById("studio-export");
  return element?.textContent ? (JSON.parse(element.textContent) as Exported) : null;
}

/** Not null in a page that was exported to a file: it shows what was exported and asks nobody. */
export const exported = readExported();
if (exported) for (const [name, answer] of Object.entries(exported.answers)) answers.set(name, answer);

function nameOf(method: string, path: string, body: unknown): string {
  return body === undefined ? `${method} ${path}` : `${method} ${path} ${JSON.stringify(body)}`;
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

/** A client whose answers count as the view's own until `forget(owner)`. */
export function openApi(owner: object, signal: AbortSignal): Api {
  const used = new Set<string>();
  const answer = async <T>(method: string, path: string, body: unknown, read: (r: Response) => Promise<T>): Promise<T> => {
    const name = nameOf(method, path, body);
    if (exported) {
      if (answers.has(name)) return answers.get(name) as T;
      throw new ApiError("This is an exported page: it holds one view and cannot ask anything new.", 0, "exported");
    }
    const result = await read(await send(method, path, body, signal));
    if (!signal.aborted) {
      answers.set(name, result);
      used.add(name);
      const before = live.get(owner);
      live.set(owner, used);
      if (before && before !== used) drop(before); // else each key that is typed would leave an answer behind
    }
    return result;
  };
  return {
    signal,
    get: <T>(path: string) => answer<T>("GET", path, undefined, readJson),
    post: <T>(path: string, body: unknown) => answer<T>("POST", path, body, readJson),
    remove: <T>(path: string) => answer<T>("DELETE", path, undefined, readJson),
    image: (path) => answer("GET", path, undefined, async (response) => dataUrl(await response.blob())),
  };
}

/** Drops what a request that is no longer shown has noted. */
export function forget(owner: object): void {
  const before = live.get(owner);
  live.delete(owner);
  if (before) drop(before);
}

function drop(names: ReadonlySet<string>): void {
  if (exported) return;
  const all = [...live.values()];
  for (const name of names) if (!all.some((used) => used.has(name))) answers.delete(name);
}

/** One call that is an action of the user rather than what the view stands on (a grade, a rollback, an export). */
export async function act<T>(method: "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
  if (exported) throw new ApiError("This is an exported page: nothing can be changed from it.", 0, "exported");
  return readJson<T>(await send(method, path, body, null));
}

/** Whether an exported page holds this answer; true where a server can be asked. */
export function isHeld(path: string, body: unknown): boolean {
  return !exported || answers.has(nameOf("POST", path, body));
}

/** What a view adds to its export beside the answers it shows. */
export const addedToExport = createStore<((api: Api) => Promise<void>) | null>(null);

/** The view as one HTML file that works offline. */
export async function exportPage(view: string, hash: string): Promise<Blob> {
  const owner = {};
  try {
    await addedToExport.get()?.(openApi(owner, new AbortController().signal));
    return await exportNow(view, hash);
  } finally {
    forget(owner);
  }
}

async function exportNow(view: string, hash: string): Promise<Blob> {
  const names = new Set([...live.values()].flatMap((used) => [...used]));
  const data: Exported = {
    hash,
    made: new Date().toISOString(),
    answers: Object.fromEntries([...names].map((name) => [name, answers.get(name)])),
  };
  return (await send("POST", "/export", { view, state: hash, data }, null)).blob();
}
