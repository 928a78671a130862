/** Grades documents with one key each, without saying which side found them, until the comparison is settled. */
import { useEffect, useRef, useState } from "preact/hooks";

import { act, ApiError } from "../api";
import { count, plural, sentence, sentenceCase } from "../format";
import { useShortcuts } from "../keys";
import { announce, toast } from "../parts/announce";
import { Bar } from "../parts/job";
import { asError, JudgeStart } from "../parts/judgestart";
import { Empty, Failure, Loading, Notice } from "../parts/notice";
import { Thumbnail } from "../parts/thumbnail";
import { useRequest } from "../request";
import { setParams, useParam } from "../state";
import { useStudio } from "../studio";
import type { JudgingAnswer, PooledDocument } from "../answers";

export function Judge() {
  const { info } = useStudio();
  const [id, setId] = useParam("judging");
  return (
    <>
      <h1 class="visually-hidden">Judge</h1>
      {!info.may_judge ? <Closed /> : id ? <Session key={id} id={id} onLeave={() => setId("")} /> : <JudgeStart onStart={setId} />}
    </>
  );
}

function Closed() {
  return (
    <Empty title="Nothing can be judged here">
      Start Studio with a folder for what is judged: <code>diptych studio --judgements FOLDER</code>.
    </Empty>
  );
}

const GRADES: readonly { grade: Grade; label: string }[] = [
  { grade: 0, label: "Not relevant" },
  { grade: 1, label: "Related" },
  { grade: 2, label: "Relevant" },
  { grade: 3, label: "Exactly what was asked for" },
];

type Grade = 0 | 1 | 2 | 3;

const ASK_AGAIN = 500; // ms, while both sides are asked

function Session({ id, onLeave }: { id: string; onLeave: () => void }) {
  const path = `/judging/${encodeURIComponent(id)}`;
  const answer = useRequest<JudgingAnswer>((api) => api.get(path), [id]);
  // A grade and an undo answer the next pair themselves: an undone one comes back first.
  const [next, setNext] = useState<JudgingAnswer | null>(null);
  const state = next ?? answer.data;
  const show = (judging: JudgingAnswer) => {
    setNext(judging);
    answer.reload(); // what an export of this view holds
  };
  const isPreparing = state?.state === "waiting" || state?.state === "running";
  useEffect(() => {
    if (!isPreparing) return undefined;
    const timer = setTimeout(answer.reload, ASK_AGAIN);
    return () => clearTimeout(timer);
  }, [answer.data]);
  if (answer.error?.status === 404) return <Gone onLeave={onLeave} />;
  if (answer.error && !next) return <Failure error={answer.error} again={answer.reload} />;
  if (!state) return <Loading label="Fetching the first document" />;
  if (isPrepared(state)) return <Work state={state} path={path} onNext={show} onLeave={onLeave} />;
  if (state.state !== "waiting" && state.state !== "running") return <NotPrepared state={state} onLeave={onLeave} />;
  return (
    <section class="card stack" aria-label="Preparation">
      <p>
        <b>{sentenceCase(state.sentence)}</b>
      </p>
      <Bar done={state.state === "waiting" ? null : state.done} total={state.total || null} label="Asking both sides" />
    </section>
  );
}

function isPrepared(state: JudgingAnswer): boolean {
  return state.state === "judging" || state.state === "settled" || state.state === "finished";
}

function NotPrepared({ state, onLeave }: { state: JudgingAnswer; onLeave: () => void }) {
  return (
    <Notice kind="error">
      <p>{state.error?.message ?? sentenceCase(state.sentence)}</p>
      <button class="button" type="button" onClick={onLeave}>
        Back
      </button>
    </Notice>
  );
}

interface WorkProps {
  state: JudgingAnswer;
  path: string;
  onNext: (state: JudgingAnswer) => void;
  onLeave: () => void;
}

function Work({ state, path, onNext, onLeave }: WorkProps) {
  const [sending, setSending] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const pair = state.query && state.document ? { query: state.query, document: state.document } : null;
  const ready = !sending;
  const busy = useRef(false); // `sending` before the next render: keys may come faster
  const forgetUndo = useRef(() => {}); // the toast of an undo speaks of the document that is shown then
  const left = useRef(false); // then what an answer says is of a view that is not shown
  useEffect(() => () => ((left.current = true), forgetUndo.current()), []);

  const send = (where: string, body: unknown, said: (next: JudgingAnswer) => void) => {
    if (busy.current) return;
    busy.current = true;
    setSending(true);
    setError(null);
    act<JudgingAnswer>("POST", where, body)
      .then(
        (state) => {
          if (left.current) return;
          said(state);
          onNext(state);
        },
        (reason: unknown) => setError(asError(reason)),
      )
      .finally(() => {
        busy.current = false;
        setSending(false);
      });
  };
  const grade = (value: Grade | null, label: string) => {
    if (!pair) return;
    send(path, { query: pair.query.id, document: pair.document.id, grade: value }, () => {
      forgetUndo.current();
      announce(label);
    });
  };
  const undo = () =>
    send(`${path}/undo`, {}, (next) => {
      forgetUndo.current = toast(undoneSentence(next));
    });
  const stop = () => {
    toast(`Stopped. ${plural(state.done, "document")} judged, and every grade is saved. Start with the same choice to go on.`);
    onLeave();
  };
  // A key that is held down must not grade documents nobody has seen.
  const once = (run: () => void) => (event: KeyboardEvent) => event.repeat || run();
  useShortcuts(
    [
      ...GRADES.map(({ grade: value, label }) => ({ keys: String(value), label, run: once(() => grade(value, label)) })),
      { keys: "s", label: "Skip this document", run: once(() => grade(null, "Skipped")) },
      { keys: "u", label: "Undo the last grade", run: once(undo) },
    ],
    [pair?.query.id, pair?.document.id, ready],
  );
  return (
    <>
      <section class="stack" aria-label="Progress">
        <div class="row between">
          <p class="number">
            {count(state.done)} of at most {plural(state.total, "document")} judged
            {pair && <span class="muted"> · query {count(pair.query.number)} of {count(pair.query.of)}, {plural(pair.document.left, "document")} left for it</span>}
          </p>
          <div class="row">
            <button class="button" type="button" aria-disabled={!ready} onClick={undo}>
              <kbd>u</kbd>Undo
            </button>
            <button class="button" type="button" onClick={pair ? stop : onLeave}>
              {pair ? "Stop" : "Judge something else"}
            </button>
          </div>
        </div>
        <Bar done={state.done} total={state.total} label="Documents judged" />
      </section>
      {error && <Failure error={error} />}
      {pair ? (
        <Card key={`${pair.query.id} ${pair.document.id}`} query={pair.query.text} document={pair.document} ready={ready} onGrade={grade} />
      ) : (
        <Outcome state={state} />
      )}
    </>
  );
}

function undoneSentence({ undone, query, document }: JudgingAnswer): string {
  if (!undone) return "You have no grade here to undo.";
  const isShown = undone[0] === query?.id && undone[1] === document?.id;
  return isShown ? "Your last grade is undone: grade this document again." : "Your last grade is undone. It was of another comparison, so its document is not shown.";
}

function Outcome({ state }: { state: JudgingAnswer }) {
  const note = useRef<HTMLDivElement>(null);
  // The document that had the focus is gone.
  useEffect(() => note.current?.focus({ preventScroll: true }), []);
  return (
    <div ref={note} tabIndex={-1} class="outcome stack">
      <Notice kind={state.settled ? "good" : "hint"}>
        <p>
          <b>{outcomeOf(state)}</b>
        </p>
        {state.total > 0 && state.verdict.split("\n").map((line) => (
          <p key={line}>{sentence(line)}</p>
        ))}
        {state.folder && state.total > 0 && (
          <p class="muted">
            The judgements are in <code>{state.folder}</code>.
          </p>
        )}
      </Notice>
      {state.settled && state.done < state.total && (
        <div class="row">
          <button class="button" type="button" onClick={() => setParams({ judging: "", complete: "yes" })}>
            Judge the rest too
          </button>
          <p class="hint">For a set of judgements to keep: those made so far are of the queries on which the sides differ most.</p>
        </div>
      )}
    </div>
  );
}

function outcomeOf({ total, settled }: JudgingAnswer): string {
  if (total === 0) return "There is nothing to judge: both sides have the same first hits for these queries.";
  return settled ? "The comparison is settled." : "Everything is judged.";
}

interface CardProps {
  query: string;
  document: PooledDocument;
  ready: boolean;
  onGrade: (grade: Grade | null, label: string) => void;
}

function Card({ query, document, ready, onGrade }: CardProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  // The reader starts at the new document; without this the focus would stay on a grade.
  useEffect(() => heading.current?.focus({ preventScroll: true }), []);
  return (
    <article class="card judged">
      <p class="muted small-text">Does this answer the query?</p>
      <h2 class="judged-query" ref={heading} tabIndex={-1}>
        {query}
      </h2>
      <div class="judged-document">
        {document.thumbnail && <Thumbnail path={document.thumbnail} alt="" />}
        <div class="grow stack">
          <h3>{document.name || document.id}</h3>
          <div class="judged-text" role="group" aria-label="Text of the document" tabIndex={0}>
            {document.text || "The document has no text."}
          </div>
        </div>
      </div>
      <Grades ready={ready} onGrade={onGrade} />
    </article>
  );
}

function Grades({ ready, onGrade }: Pick<CardProps, "ready" | "onGrade">) {
  return (
    <div class="grades" role="group" aria-label="Grade">
      {GRADES.map(({ grade, label }) => (
        <button key={grade} class="button grade" type="button" data-grade={grade} aria-disabled={!ready} onClick={() => onGrade(grade, label)}>
          <kbd>{grade}</kbd>
          <span class="grade-label">{label}</span>
        </button>
      ))}
      <button class="button grade" type="button" aria-disabled={!ready} onClick={() => onGrade(null, "Skipped")}>
        <kbd>s</kbd>
        <span class="grade-label">Skip</span>
      </button>
    </div>
  );
}

function Gone({ onLeave }: { onLeave: () => void }) {
  return (
    <Empty title="This session has ended">
      <p>The server keeps a session for a while only. What was judged is saved; a new session goes on where it stopped.</p>
      <button class="button" type="button" onClick={onLeave}>
        New session
      </button>
    </Empty>
  );
}
