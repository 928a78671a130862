/** Why a document stands where it stands: for both sides its score in parts, beside that of another document. */
import { memo } from "preact/compat";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { count, score } from "../format";
import { locateBody, NONE, type Asked } from "../question";
import { useRequest } from "../request";
import { useParam } from "../state";
import { sideLabel, useStudio } from "../studio";
import type { Found, Located, Question, ShownDocument, ShownHit } from "../answers";
import { Copy } from "./copy";
import { Select } from "./field";
import { distinctTitle, titleOf } from "./hits";
import { Marked, placesOf, wordStart, type Place } from "./marked";
import { Failure, Loading } from "./notice";
import { coloursOf, extentOf, PartsTable, ScoreBar, sumOf } from "./scorebar";
import { Thumbnail } from "./thumbnail";

export interface WhyProps {
  id: string;
  asked: Asked;
  a: Found | null;
  b: Found | null;
  onClose: () => void;
}

const NO_HITS: readonly ShownHit[] = [];

export const Why = memo(function Why({ id, asked, a, b, onClose }: WhyProps) {
  const { collection } = useStudio();
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus({ preventScroll: true }), [id]);
  const answers = { a, b };
  const hit = a?.hits.find((one) => one.id === id) ?? b?.hits.find((one) => one.id === id);
  const sides = (["a", "b"] as const).filter((name) => asked[name] !== NONE);
  const [located, setLocated] = useState<Readonly<Record<string, Located>>>({});
  const note = useCallback((side: string, answer: Located) => setLocated((before) => ({ ...before, [side]: answer })), []);
  const answered = sides.flatMap((name) => located[name] ?? []).filter((answer) => answer.document?.id === id);
  const document = answered[0]?.document ?? hit;
  const words = answered.flatMap((answer) => Object.values(answer.why?.slots ?? {}).flatMap((slot) => slot.terms.map(({ word }) => word)));
  return (
    <aside class="why card" aria-labelledby="why-title">
      <header class="row between why-head">
        <div>
          <h2 id="why-title" ref={heading} tabIndex={-1}>
            {document ? titleOf(document) : id}
          </h2>
          <div class="row">
            {document && titleOf(document) !== id && <code class="muted">{id}</code>}
            <Copy text={id} what="id" label="Copy id" />
          </div>
        </div>
        <button class="button quiet" type="button" onClick={onClose} aria-label="Close the explanation">
          ✕
        </button>
      </header>
      {asked.question &&
        sides.map((name) => (
          <WhySide
            key={`${name} ${asked[name]}`}
            name={name}
            label={sideLabel(collection, asked[name])}
            side={asked[name]}
            id={id}
            question={asked.question!}
            hits={answers[name]?.hits ?? NO_HITS}
            onAnswer={note}
          />
        ))}
      {document && <Document document={document} places={marksOf(document, hit) ?? placesOf(document.text, words)} from={startOf(document, hit)} />}
    </aside>
  );
});

interface WhySideProps {
  name: "a" | "b";
  label: string;
  side: string;
  id: string;
  question: Question;
  hits: readonly ShownHit[];
  onAnswer: (side: string, answer: Located) => void;
}

const PAUSE = 150; // milliseconds: an explanation costs more than a search

function useLocated(question: Question, side: string, id: string | null) {
  const asked = locateBody(question, side, id ?? "");
  return useRequest<Located>(id === null ? null : (api) => api.post("/locate", asked), [asked], PAUSE);
}

const WhySide = memo(function WhySide({ name, label, side, id, question, hits, onAnswer }: WhySideProps) {
  const rank = hits.findIndex((hit) => hit.id === id);
  const neighbour = hits[rank > 0 ? rank - 1 : rank === 0 ? 1 : hits.length - 1]?.id ?? "";
  const [picked, setPicked] = useParam(`${name}-other`);
  const other = hits.some((hit) => hit.id === picked && hit.id !== id) ? picked : neighbour;
  const located = useLocated(question, side, id);
  const asking = useLocated(question, side, other && other !== id ? other : null);
  const beside = asking.data?.document?.id === other ? asking.data : null; // not the one before, which is still held
  const parts = located.data?.score == null ? [] : located.data.parts; // of no hit only its places are known
  const otherParts = beside?.parts ?? [];
  const colours = coloursOf([parts, otherParts]);
  const extent = extentOf([parts, otherParts]);
  const otherHit = hits.find((hit) => hit.id === other);
  const found = located.data;
  useEffect(() => {
    if (found) onAnswer(name, found);
  }, [found]);
  return (
    <section class="why-side" data-side={name} aria-label={`Side ${name.toUpperCase()}: ${label}`}>
      <h3 class="row between">
        <span>
          <span class="tag" data-side={name}>
            {name.toUpperCase()}
          </span>{" "}
          {label}
        </span>
        {found?.rank != null && (
          <span class="number">
            rank {rank < 0 ? found.rank : rank + 1}
            {found.score != null && <span class="muted"> · {score(found.score)}</span>}
          </span>
        )}
      </h3>
      {located.error && <Failure error={located.error} again={located.reload} />}
      {!found && located.loading && <Loading label="Explaining" />}
      {found && rank < 0 && (
        <p class="small-text">
          {found.sentence}
          {isTied(found, hits) && " Hits that are shown have the same score; which of them come first is left to the store."}
        </p>
      )}
      {found && parts.length > 0 && (
        <>
          <ScoreBar parts={parts} colours={colours} extent={extent} label={found.document ? titleOf(found.document) : id} />
          {otherHit && otherParts.length > 0 && <ScoreBar parts={otherParts} colours={colours} extent={extent} label={titleOf(otherHit)} />}
          {hits.length > 1 && (
            <Select
              label="Lower bar: compared with"
              value={other}
              choices={hits.flatMap((hit, at) => (hit.id === id ? [] : [{ value: hit.id, label: `${at + 1}. ${distinctTitle(hit, hits)}` }]))}
              onChange={setPicked}
              lazy
            />
          )}
          {otherHit && beside && <Difference mine={found} theirs={beside} title={distinctTitle(otherHit, hits)} />}
          <PartsTable mine={found} theirs={otherHit && beside ? beside : undefined} colours={colours} />
          {found.before.length > 0 && <Before mine={found} theirs={otherHit && beside ? beside : undefined} title={otherHit ? distinctTitle(otherHit, hits) : ""} />}
        </>
      )}
      {found && !parts.length && found.legs.length > 0 && <Legs found={found} />}
    </section>
  );
});

/** Whether it could as well be a hit: stores order equal scores otherwise where more are asked for, as explanations do. */
function isTied(found: Located, hits: readonly ShownHit[]): boolean {
  return found.rank !== null && found.rank <= hits.length && hits.some((hit) => hit.score === found.score);
}

/** The slots' parts of the score that a last stage, such as a reranker, replaced: where the document came from. */
function Before({ mine, theirs, title }: { mine: Located; theirs: Located | undefined; title: string }) {
  const before = (answer: Located) => ({ ...answer, why: null, parts: answer.before, score: sumOf(answer.before) });
  const other = theirs && theirs.before.length > 0 ? before(theirs) : undefined;
  return (
    <div class="stack" role="group" aria-label="The score before the last stage">
      <h4>Before the last stage</h4>
      {other && <Difference mine={before(mine)} theirs={other} title={title} />}
      <PartsTable mine={before(mine)} theirs={other} colours={coloursOf([mine.before, other?.parts ?? []])} />
    </div>
  );
}

/** The sentence that says which part decides between two documents. */
function Difference({ mine, theirs, title }: { mine: Located; theirs: Located; title: string }) {
  if (mine.score === null || theirs.score === null) return null;
  const difference = mine.score - theirs.score;
  const names = [...new Set([...mine.parts, ...theirs.parts].map((part) => part.name))];
  const valueOf = (answer: Located, name: string) => answer.parts.filter((part) => part.name === name).reduce((sum, part) => sum + part.value, 0);
  const isWord = (name: string) => [...mine.parts, ...theirs.parts].some((part) => part.name === name && part.kind === "word");
  const gaps = names
    .map((name) => ({ name: isWord(name) ? `the word “${name}”` : name, gap: valueOf(mine, name) - valueOf(theirs, name) }))
    .sort((one, two) => Math.abs(two.gap) - Math.abs(one.gap));
  const decisive = gaps.find(({ gap }) => gap * difference > 0);
  const against = gaps.find(({ gap }) => gap * difference < 0 && score(Math.abs(gap)) !== "0.0000");
  if (difference === 0) return <p class="small-text">Both have the same score: nothing in it decides which comes first.</p>;
  if (!decisive) return null;
  if (names.length === 1 && mine.before.length > 0 && mine.parts !== mine.before) {
    return (
      <p class="small-text why-difference">
        {difference > 0 ? "Above" : "Below"} “<bdi>{title}</bdi>” because <b>{decisive.name}</b>, the last stage, gives the whole score.
      </p>
    );
  }
  const verb = difference > 0 ? "Above" : "Below";
  return (
    <p class="small-text why-difference">
      {verb} “<bdi>{title}</bdi>” by <b class="number">{score(Math.abs(difference))}</b>. What counts most: <b>{decisive.name}</b> (<Gap of={decisive.gap} />)
      {against && (
        <>
          ; the other way counts {against.name} (<Gap of={against.gap} />)
        </>
      )}
      .
    </p>
  );
}

function Gap({ of }: { of: number }) {
  return (
    <span class="number">
      {of > 0 ? "+" : "−"}
      {score(Math.abs(of))}
    </span>
  );
}

function Legs({ found }: { found: Located }) {
  return (
    <table class="table">
      <caption class="visually-hidden">The document in each slot</caption>
      <thead>
        <tr>
          <th scope="col">Slot</th>
          <th scope="col" class="right">
            Rank
          </th>
          <th scope="col" class="right">
            Score
          </th>
        </tr>
      </thead>
      <tbody>
        {found.legs.map((leg) => (
          <tr key={leg.slot}>
            <td>{leg.slot}</td>
            <td class="right">{leg.rank === null ? "none" : `${count(leg.rank)}${leg.candidate ? "" : ` (${count(leg.candidates)} passed on)`}`}</td>
            <td class="right">{leg.score === null ? "–" : score(leg.score)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Where in the document's text that of the hit begins: of a long text a hit has the part around its best passage. */
function startOf(document: ShownDocument, hit: ShownHit | undefined): number {
  return hit ? Math.max(0, hit.text_start - document.text_start) : 0;
}

function marksOf(document: ShownDocument, hit: ShownHit | undefined): Place[] | undefined {
  const shift = startOf(document, hit);
  return hit?.highlights.map(([start, end]): Place => [start + shift, end + shift]);
}

const LONG = 4000; // characters: what is longer would push the metadata out of reach

function Document({ document, places, from }: { document: ShownDocument; places: readonly Place[]; from: number }) {
  const [whole, setWhole] = useState(false);
  useEffect(() => setWhole(false), [document.id]);
  const { text } = document;
  const begin = whole ? 0 : from;
  const end = whole || text.length <= begin + LONG ? text.length : wordStart(text, begin + LONG);
  const payload = Object.entries(document.payload);
  return (
    <section class="stack" aria-label="Document">
      {document.thumbnail && <Thumbnail path={document.thumbnail} alt={titleOf(document)} />}
      {text && (
        <p class="why-text">
          {document.text_start + begin > 0 && "… "}
          <Marked text={text} places={places} from={begin} to={end} />
          {document.text_start + end < document.text_length && " …"}
        </p>
      )}
      {end - begin < text.length && (
        <div>
          <button class="button small" type="button" onClick={() => setWhole(true)}>
            Show all {count(document.text_length)} characters
          </button>
        </div>
      )}
      {payload.length > 0 && (
        <table class="table payload">
          <caption class="visually-hidden">Metadata</caption>
          <tbody>
            {payload.map(([key, value]) => (
              <tr key={key}>
                <th scope="row">{key}</th>
                <td>{typeof value === "string" ? value : JSON.stringify(value)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
