/** The shell: header, navigation, theme, key and help dialogs, and the view that the hash names. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { apiKey, keyWanted } from "./api";
import { isolated } from "./format";
import { useShortcuts } from "./keys";
import { announce, Announcer } from "./parts/announce";
import { Select } from "./parts/field";
import { HelpDialog } from "./parts/help";
import { KeyDialog } from "./parts/key";
import { Empty, Failure, Loading, Notice } from "./parts/notice";
import { useRequest } from "./request";
import { formatHash, go, hashOf, lastParams, route, useRoute } from "./state";
import { useStore } from "./store";
import { StudioContext } from "./studio";
import { setTheme, theme, type Theme } from "./theme";
import type { State } from "./answers";
import { VIEWS, type View } from "./views";

const THEMES: Readonly<Record<Theme, string>> = { system: "◐", light: "☀", dark: "☾" };

function nextTheme(current: Theme): void {
  const all = Object.keys(THEMES) as Theme[];
  const next = all[(all.indexOf(current) + 1) % all.length] ?? "system";
  setTheme(next);
  announce(`Theme: ${next}`);
}

export function App() {
  const { view: name, params } = useRoute();
  const view = VIEWS.find((one) => one.name === name) ?? VIEWS[0]!;
  const wanted = useStore(keyWanted);
  const [help, setHelp] = useState(false);
  const state = useRequest<State>((api) => api.get("/state"), []);
  const collection = state.data?.collections.find((one) => one.name === params.collection) ?? state.data?.collections[0];

  useShortcuts(
    [
      { keys: "?", label: "Show the keyboard shortcuts", run: () => setHelp(true) },
      ...VIEWS.map((one) => ({ keys: `g ${one.key}`, label: `Go to ${one.label}`, run: () => go(one.name, lastParams(one.name)) })),
    ],
    [],
  );
  const main = useViewFocus(view, view.name === "compare" ? (params.q ?? "") : "");
  useFocusAfterKey(wanted, state.data !== null, main);
  useLookAgain(Boolean(collection?.error), state.reload);
  const studio = useMemo(() => state.data && collection && { info: state.data, collection, reload: state.reload }, [state.data, collection, state.reload]);
  const Shown = view.component;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to the view
      </a>
      <header class="top">
        <div class="top-row">
          <a class="brand" href={hashOf("compare", lastParams("compare"))}>
            <Mark />
            <span class="brand-name">
              diptych <b>Studio</b>
            </span>
          </a>
          {state.data && collection && (
            <Select
              label="Collection"
              hideLabel
              value={collection.name}
              choices={state.data.collections.map((one) => ({ value: one.name, label: one.name }))}
              onChange={(value) => go(view.name, { collection: value, a: "", b: "" })}
            />
          )}
          <Actions onHelp={() => setHelp(true)} />
        </div>
        <Navigation current={view} />
      </header>
      <main id="main" ref={main} tabIndex={-1} class="main" aria-label={view.label}>
        {!view.alone && state.error && state.error.status !== 401 && <Failure error={state.error} again={state.reload} />}
        {!view.alone && !state.data && state.loading && <Loading label="Loading the collections" />}
        {!view.alone && state.data && !collection && (
          <Empty title="No collection to show">
            The store holds no collection yet. <code>diptych populate</code> makes one; then reload this page.
          </Empty>
        )}
        {view.alone && <Shown key={view.name} />}
        {!view.alone && collection && params.collection && params.collection !== collection.name && (
          <Notice kind="warning">
            This link names the collection “{params.collection}”, which is not served here. Shown is “{collection.name}”.
          </Notice>
        )}
        {!view.alone && collection?.error && (
          <Notice kind="warning">
            <p>{collection.error}</p>
            <p class="hint">This page looks again every few seconds.</p>
          </Notice>
        )}
        {!view.alone && studio && !studio.collection.error && (
          <StudioContext.Provider value={studio}>
            <Shown key={`${view.name} ${studio.collection.name}`} />
          </StudioContext.Provider>
        )}
      </main>
      {wanted && <KeyDialog refused={apiKey.get() !== ""} />}
      {help && <HelpDialog onClose={() => setHelp(false)} />}
      <Announcer />
    </>
  );
}

/** A new view is announced by its name and takes the focus, as a new page would, unless it has taken it itself. */
function useViewFocus(view: View, query: string) {
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    document.title = [...(query.trim() ? [isolated(query.trim())] : []), view.label, "diptych Studio"].join(" · ");
  }, [view, query]);
  useEffect(() => {
    if (!first.current && !main.current?.contains(document.activeElement)) main.current?.focus({ preventScroll: true });
    first.current = false;
  }, [view]);
  return main;
}

/** Once a key is taken and the view is there, work goes on in its search box, else at its beginning. */
function useFocusAfterKey(wanted: boolean, ready: boolean, main: { current: HTMLElement | null }): void {
  const asked = useRef(false);
  if (wanted) asked.current = true;
  useEffect(() => {
    if (!asked.current || wanted || !ready) return;
    asked.current = false;
    (document.getElementById("query") ?? main.current)?.focus({ preventScroll: true });
  }, [wanted, ready]);
}

const LOOK_AGAIN = 4000; // milliseconds

/** A collection that cannot be shown yet, such as an empty one, is looked for until it can. */
function useLookAgain(wanted: boolean, reload: () => void): void {
  useEffect(() => {
    if (!wanted) return undefined;
    const timer = setInterval(() => document.visibilityState === "visible" && reload(), LOOK_AGAIN);
    return () => clearInterval(timer);
  }, [wanted, reload]);
}

function Navigation({ current }: { current: View }) {
  useRoute(); // links carry the collection and the sides of the current hash
  const shown = useRef<HTMLAnchorElement>(null);
  useEffect(() => {
    const bringIntoSight = () => shown.current?.scrollIntoView({ block: "nearest", inline: "center" });
    bringIntoSight();
    window.addEventListener("resize", bringIntoSight); // a narrower window has room for fewer tabs
    return () => window.removeEventListener("resize", bringIntoSight);
  }, [current]);
  return (
    <nav class="tabs" aria-label="Views">
      {VIEWS.map((view) => (
        <a
          key={view.name}
          ref={view === current ? shown : undefined}
          class="tab"
          href={view === current ? formatHash(route.get()) : hashOf(view.name, lastParams(view.name))}
          title={view.purpose}
          aria-current={view === current ? "page" : undefined}
        >
          {view.label}
        </a>
      ))}
    </nav>
  );
}

function Actions({ onHelp }: { onHelp: () => void }) {
  const chosen = useStore(theme);
  return (
    <div class="row actions">
      <button class="button icon" type="button" onClick={() => nextTheme(chosen)} aria-label={`Theme: ${chosen}. Change it`} title={`Theme: ${chosen}`}>
        <span aria-hidden="true">{THEMES[chosen]}</span>
      </button>
      <button class="button icon" type="button" onClick={onHelp} aria-label="Help and keyboard shortcuts" title="Keyboard shortcuts (?)">
        ?
      </button>
    </div>
  );
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
      <path class="fill-a" d="M3 6.5 15 4v24L3 25.5z" />
      <path class="fill-b" d="M17 4l12 2.5v19L17 28z" />
    </svg>
  );
}
