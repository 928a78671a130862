/** What to judge: which queries, the sides, and who judges. */
import { useState } from "preact/hooks";

import { act, ApiError } from "../api";
import { useSides } from "../evaluation";
import { useParam } from "../state";
import { createStore, useStore } from "../store";
import { useStudio } from "../studio";
import { AbsentSides } from "./absentsides";
import { Segments, TextField } from "./field";
import { Failure } from "./notice";
import { QuerySetSelect, SideSelects } from "./setup";

/** Queries of one's own; kept while the page is open, since they are too long for a link. */
const typed = createStore("");

export function JudgeStart({ onStart }: { onStart: (id: string) => void }) {
  const { info, collection } = useStudio();
  const [judged, setJudged] = useParam("judged", info.judged[0]?.name ?? "");
  const [who, setWho] = useParam("who");
  const [source, setSource] = useState(info.judged.length > 0 && !typed.get() ? "set" : "own");
  const [complete, setComplete] = useParam("complete");
  const own = useStore(typed);
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const sides = useSides();
  const queries = own.split("\n").map((line) => line.trim()).filter(Boolean);
  const obstacle = sides.obstacle || startObstacle(who, source === "own" && queries.length === 0);
  const start = () => {
    setBusy(true);
    setError(null);
    const asked = source === "own" ? { queries } : { judged };
    act<{ id: string }>("POST", "/judging", { collection: collection.name, who: who.trim(), complete: complete !== "", ...asked, ...sides.asked })
      .then(
        (made) => onStart(made.id),
        (reason: unknown) => setError(asError(reason)),
      )
      .finally(() => setBusy(false));
  };
  return (
    <form
      class="card stack"
      aria-label="What to judge"
      onSubmit={(event) => {
        event.preventDefault();
        if (!obstacle && !busy) start();
      }}
    >
      <p>
        Both sides answer the same queries. You grade their first hits one by one, without seeing which side found them, until the comparison
        is settled. Every grade is saved at once. From a set of more than 50 queries, 50 are drawn at random.
      </p>
      {info.judged.length > 0 && (
        <Segments label="Queries" value={source} choices={SOURCES} onChange={setSource} />
      )}
      <div class="fields">
        {source === "set" && <QuerySetSelect label="Queries" value={judged} onChange={setJudged} />}
        <SideSelects {...sides} />
        <TextField label="Your name" value={who} onInput={setWho} hint="Saved with each grade." />
      </div>
      <AbsentSides {...sides} />
      {source === "own" && (
        <label class="field">
          <span class="field-label">Queries, one a line</span>
          <textarea class="input" rows={6} value={own} onInput={(event) => typed.set(event.currentTarget.value)} />
        </label>
      )}
      <label class="check">
        <input type="checkbox" checked={complete !== ""} onChange={(event) => setComplete(event.currentTarget.checked ? "yes" : "")} /> Go on after
        the comparison is settled, until everything is judged
      </label>
      {error && <Failure error={error} />}
      <div class="row">
        <button class="button primary" type="submit" disabled={obstacle !== "" || busy}>
          {busy ? "Asking both sides …" : "Start judging"}
        </button>
        {obstacle && <p class="hint">{obstacle}</p>}
      </div>
    </form>
  );
}

const SOURCES = [
  { value: "set", label: "Queries of a set" },
  { value: "own", label: "My own queries" },
];

function startObstacle(who: string, empty: boolean): string {
  if (empty) return "Write a query or more.";
  return who.trim() ? "" : "Say who judges.";
}

export function asError(reason: unknown): ApiError {
  return reason instanceof ApiError ? reason : new ApiError(String(reason), 0, "page");
}
