/**
 * What the page shows, kept in the URL's hash: `#/compare?collection=books&q=printer&a=pipeline`.
 *
 * So every view has a link, and Back works. Parameters are strings; a view names its own (`useParam("q")`).
 */
import { createStore, useStore } from "./store";

export interface Route {
  view: string;
  params: Readonly<Record<string, string>>;
}

export const DEFAULT_VIEW = "compare";
/** Parameters that stay when the view changes. */
const KEPT = ["collection", "tenant", "a", "b", "judged"];

export function parseHash(hash: string): Route {
  const text = hash.replace(/^#\/?/, "");
  const cut = text.indexOf("?");
  const view = (cut < 0 ? text : text.slice(0, cut)) || DEFAULT_VIEW;
  const params = Object.fromEntries(new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1)));
  return { view, params };
}

export function formatHash(route: Route): string {
  const given = Object.entries(route.params).filter(([, value]) => value !== "");
  const query = new URLSearchParams(given).toString();
  return `#/${route.view}${query ? `?${query}` : ""}`;
}

export const route = createStore<Route>(parseHash(location.hash));

/** Browsers refuse more than some 100 changes of the address in 30 seconds, so typing writes it after a pause. */
const WRITE_AFTER = 300;
let unwritten: ReturnType<typeof setTimeout> | undefined;

/** Brings the address up to what is shown. */
export function writeAddress(): void {
  if (unwritten === undefined) return;
  clearTimeout(unwritten);
  unwritten = undefined;
  history.replaceState(null, "", formatHash(route.get()));
}

function readAddress(): void {
  clearTimeout(unwritten);
  unwritten = undefined;
  route.set(parseHash(location.hash));
}

window.addEventListener("hashchange", readAddress);
window.addEventListener("popstate", readAddress);
window.addEventListener("click", writeAddress, { capture: true }); // before a link leaves the entry
window.addEventListener("pagehide", writeAddress);

function show(next: Route, replace: boolean): void {
  const hash = formatHash(next);
  if (hash === formatHash(route.get())) return;
  if (replace) {
    clearTimeout(unwritten);
    unwritten = setTimeout(writeAddress, WRITE_AFTER);
  } else {
    writeAddress();
    history.pushState(null, "", hash); // fires no hashchange, so the store is set here
  }
  route.set(parseHash(hash)); // without the parameters that are empty
}

function kept(): Record<string, string> {
  const current = route.get().params;
  return Object.fromEntries(KEPT.flatMap((name) => (current[name] ? [[name, current[name]]] : [])));
}

/** Opens a view; collection, tenant, sides and judged set stay unless `params` gives others. */
export function go(view: string, params: Record<string, string> = {}): void {
  show({ view, params: { ...kept(), ...params } }, false);
}

/** The hash of a view with these parameters, for links (`<a href>`), with what `go` keeps. */
export function hashOf(view: string, params: Record<string, string> = {}): string {
  return formatHash({ view, params: { ...kept(), ...params } });
}

const LEFT = "diptych-studio-views";
let unstored: ReturnType<typeof setTimeout> | undefined;
window.addEventListener("pagehide", storeViews);
const left = new Map<string, Readonly<Record<string, string>>>(storedViews());
route.follow(noteView);
if (Object.keys(route.get().params).length > 0) noteView(); // else Studio is opened anew: what was there is worth more

function storedViews(): [string, Record<string, string>][] {
  try {
    return Object.entries(JSON.parse(sessionStorage.getItem(LEFT) ?? "{}") as Record<string, Record<string, string>>);
  } catch {
    return []; // refused by the browser
  }
}

function noteView(): void {
  const { view, params } = route.get();
  left.set(view, params);
  clearTimeout(unstored);
  unstored = setTimeout(storeViews, WRITE_AFTER);
}

function storeViews(): void {
  clearTimeout(unstored);
  try {
    sessionStorage.setItem(LEFT, JSON.stringify(Object.fromEntries(left)));
  } catch {
    // Kept in memory then, until the page is closed.
  }
}

/** The parameters with which a view was last shown in this collection and tab: its link leads back to them. */
export function lastParams(view: string): Record<string, string> {
  const { collection = "", ...params } = left.get(view) ?? {};
  return collection === (route.get().params.collection ?? "") ? { ...params, ...kept() } : {};
}

/** Changes parameters of the view that is shown. Typing replaces the history entry; a choice may add one. */
export function setParams(patch: Record<string, string>, { replace = true } = {}): void {
  const current = route.get();
  show({ view: current.view, params: { ...current.params, ...patch } }, replace);
}

/** Opens the explanation of a document, or closes it; with what it was compared belongs to the document before. */
export function explain(doc: string): void {
  setParams({ doc, "a-other": "", "b-other": "" });
}

export function useRoute(): Route {
  return useStore(route);
}

/** One parameter of the hash and its setter. An empty string removes it from the hash. */
export function useParam(name: string, otherwise = ""): [string, (value: string) => void] {
  const { params } = useStore(route);
  return [params[name] ?? otherwise, (value) => setParams({ [name]: value === otherwise ? "" : value })];
}
