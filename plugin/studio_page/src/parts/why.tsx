/** Why a document stands where it stands: for both sides its score in parts, beside that of another document. */
import { useEffect, useRef, useState } from "preact/hooks";

import { score } from "../format";
import { NONE, sideOf, type Asked } from "../question";
import { useRequest } from "../request";
import { sideLabel, useStudio } from "../studio";
import type { Hit, LocateAnswer, Question, SearchAnswer } from "../types/search";
import { Copy } from "./copy";
import { Select } from "./field";
import { titleOf } from "./hits";
import { Marked, placesOf } from "./marked";
import { Failure, Loading } from "./notice";
import { coloursOf, extentOf, PartsTable, ScoreBar } from "./scorebar";
import { Thumbnail } from "./thumbnail";

export interface WhyProps {
  id: string;
  asked: Asked;
  answers: { a: SearchAnswer | null; b: SearchAnswer | null };
  onClose: () => void;
}

export function Why({ id, asked, answers, onClose }: WhyProps) {
  const { collection } = useStudio();
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus({ preventScroll: true }), [id]);
  const hit = answers.a?.hits.find((one) => one.id === id) ?? answers.b?.hits.find((one) => one.id === id);
  const sides = (["a", "b"] as const).filter((name) => asked[name] !== NONE);
  const words = useRef<Map<string, string[]>>(new Map());
  const [, setSeen] = useState(0);
  const noteWords = (side: string, found: string[]) => {
    if (words.current.get(`${id} ${side}`)?.join() === found.join()) return;
    words.current.set(`${id} ${side}`, found);
    setSeen((count) => count + 1);
  };
  return (
    <aside class="why card" aria-labelledby="why-title">
      <header class="row between why-head">
        <h2 id="why-title" ref={heading} tabIndex={-1}>
          {hit ? titleOf(hit) : id}
        </h2>
        <button class="button quiet" type="button" onClick={onClose} aria-label="Close the explanation">
          ✕
        </button>
      </header>
      <div class="row">
        <code class="muted">{id}</code>
        <Copy text={id} what="id" />
      </div>
      {asked.question &&
        sides.map((name) => (
          <WhySide
            key={`${name} ${asked[name]}`}
            name={name}
            label={sideLabel(collection, asked[name])}
            side={asked[name]}
            id={id}
            question={asked.question!}
            hits={answers[name]?.hits ?? []}
            onWords={noteWords}
          />
        ))}
      {hit && <Document hit={hit} words={sides.flatMap((name) => words.current.get(`${id} ${name}`) ?? [])} />}
    </aside>
  );
}

interface WhySideProps {
  name: "a" | "b";
  label: string;
  side: string;
  id: string;
  question: Question;
  hits: readonly Hit[];
  onWords: (side: string, words: string[]) => void;
}

function useLocated(question: Question, side: string, id: string | null) {
  const body = { ...question, side: sideOf(side), id };
  const { limit: _, ...asked } = body;
  return useRequest<LocateAnswer>(id === null ? null : (api) => api.post("/locate", asked), [asked]);
}

function WhySide({ name, label, side, id, question, hits, onWords }: WhySideProps) {
  const rank = hits.findIndex((hit) => hit.id === id);
  const neighbour = hits[rank > 0 ? rank - 1 : rank === 0 ? 1 : hits.length - 1]?.id ?? "";
  const [picked, setPicked] = useState<string | null>(null);
  useEffect(() => setPicked(null), [id]);
  const other = picked ?? neighbour;
  const located = useLocated(question, side, id);
  const beside = useLocated(question, side, other && other !== id ? other : null);
  const parts = located.data?.parts ?? [];
  const otherParts = beside.data?.parts ?? [];
  const colours = coloursOf([parts, otherParts]);
  const extent = extentOf([parts, otherParts]);
  const otherHit = hits.find((hit) => hit.id === other);
  const found = located.data;
  useEffect(() => {
    if (found) onWords(name, found.parts.flatMap((part) => part.words?.map(({ word }) => word) ?? []));
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
            rank {found.rank}
            {found.score != null && <span class="muted"> · {score(found.score)}</span>}
          </span>
        )}
      </h3>
      {located.error && <Failure error={located.error} again={located.reload} />}
      {!found && located.loading && <Loading label="Explaining" />}
      {found && <p class="small-text">{found.sentence}</p>}
      {found && parts.length > 0 && (
        <>
          <ScoreBar parts={parts} colours={colours} extent={extent} label={hits.find((hit) => hit.id === id)?.title || id} />
          {otherHit && otherParts.length > 0 && <ScoreBar parts={otherParts} colours={colours} extent={extent} label={titleOf(otherHit)} />}
          {hits.length > 1 && (
            <Select
              label="Lower bar: compared with"
              value={other}
              choices={hits.flatMap((hit, at) => (hit.id === id ? [] : [{ value: hit.id, label: `${at + 1}. ${titleOf(hit)}` }]))}
              onChange={setPicked}
            />
          )}
          {otherHit && beside.data && <Difference mine={found} theirs={beside.data} title={titleOf(otherHit)} />}
          <PartsTable parts={parts} colours={colours} total={found.score} />
        </>
      )}
      {found && !parts.length && found.legs.length > 0 && <Legs found={found} />}
    </section>
  );
}

/** The sentence that says which part decides between two documents. */
function Difference({ mine, theirs, title }: { mine: LocateAnswer; theirs: LocateAnswer; title: string }) {
  if (mine.score === null || theirs.score === null) return null;
  const difference = mine.score - theirs.score;
  const names = [...new Set([...mine.parts, ...theirs.parts].map((part) => part.name))];
  const valueOf = (answer: LocateAnswer, name: string) => answer.parts.filter((part) => part.name === name).reduce((sum, part) => sum + part.value, 0);
  const gaps = names.map((name) => ({ name, gap: valueOf(mine, name) - valueOf(theirs, name) }));
  const decisive = gaps.filter(({ gap }) => gap * difference > 0).sort((one, two) => Math.abs(two.gap) - Math.abs(one.gap))[0];
  if (difference === 0 || !decisive) return <p class="small-text">Both have the same score.</p>;
  const verb = difference > 0 ? "Above" : "Below";
  return (
    <p class="small-text why-difference">
      {verb} “{title}” by <b class="number">{score(Math.abs(difference))}</b>, most of it from <b>{decisive.name}</b> (
      <span class="number">
        {decisive.gap > 0 ? "+" : "−"}
        {score(Math.abs(decisive.gap))}
      </span>
      ).
    </p>
  );
}

function Legs({ found }: { found: LocateAnswer }) {
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
            <td class="right">{leg.rank ?? "none"}</td>
            <td class="right">{leg.score === null ? "–" : score(leg.score)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Document({ hit, words }: { hit: Hit; words: readonly string[] }) {
  const payload = Object.entries(hit.payload);
  const places = hit.highlights.length ? hit.highlights : placesOf(hit.text, words);
  return (
    <section class="stack" aria-label="Document">
      {hit.thumbnail && <Thumbnail path={hit.thumbnail} alt={titleOf(hit)} />}
      {hit.text && (
        <p class="why-text">
          <Marked text={hit.text} places={places} />
        </p>
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
