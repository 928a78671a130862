/** What is judged of the query, where it is one of a judged set: how much of it the sides found, and what they did not. */
import { memo } from "preact/compat";
import { useState } from "preact/hooks";

import { count, isolated, plural } from "../format";
import { NONE, type Asked } from "../question";
import { useRequest } from "../request";
import { formatHash, useRoute } from "../state";
import { useStudio } from "../studio";
import type { Found, Grades, RelevantDocument } from "../answers";

const PAUSE = 120; // milliseconds after the last key, as the searches: what comes later moves the hits down
const SHOWN = 5; // relevant documents that are missing, before somebody asks for all

/** The grades of the question that is asked now; null while they are not known, or there are none. */
export function useGrades({ question }: Asked): Grades | null {
  const { info } = useStudio();
  const { params } = useRoute();
  const mayBeJudged = info.may_judge || info.judged.some((set) => set.judged !== 0 && !set.error);
  const text = typeof question?.query === "string" ? question.query : "";
  const wanted = question && text.trim() && mayBeJudged;
  const body = wanted && { collection: question.collection, query: text, ...(params.judged ? { judged: params.judged } : {}), ...(question.tenant ? { tenant: question.tenant } : {}) };
  const { data } = useRequest<{ text: string; grades: Grades }>(
    body ? async (api) => ({ text, grades: await api.post<Grades>("/grades", body) }) : null,
    [body],
    PAUSE,
  );
  return data?.text === text && data.grades.judged !== null ? data.grades : null; // not those of the query before
}

/** The relevant documents that are not among the hits of a side, the best first. */
export function hiddenOf(grades: Grades | null, answers: readonly (Found | null)[]): RelevantDocument[] {
  const found = answers.map((answer) => new Set(answer?.hits.map((hit) => hit.id)));
  return grades?.relevant.filter(({ id }) => found.some((ids) => !ids.has(id))) ?? [];
}

interface Props {
  asked: Asked;
  grades: Grades;
  a: Found | null;
  b: Found | null;
}

export const Judged = memo(function Judged({ asked, grades, a, b }: Props) {
  const [all, setAll] = useState(false);
  if (!a || (asked.b !== NONE && !b)) return null;
  const answers = b && asked.b !== NONE ? [a, b] : [a];
  const hidden = hiddenOf(grades, answers);
  const shown = all ? hidden : hidden.slice(0, SHOWN);
  const total = grades.relevant.length + grades.more;
  const [first, second] = answers.map((answer) => foundOf(grades, answer));
  const counts = second === undefined ? `${first} of them among these hits.` : `A shows ${first}, B ${second}.`;
  return (
    <section class="judged-note small-text" aria-label="Judged documents">
      <p>
        By the judgements in <b>{isolated(grades.judged ?? "")}</b>: {summaryOf(total, grades.absent, counts)}
      </p>
      {hidden.length > 0 && (
        <>
          <p id="judged-hidden">
            {plural(hidden.length, "relevant document is", "relevant documents are")} not among {answers.length > 1 ? "the hits of both" : "these hits"}:
          </p>
          <ul class="judged-hidden" aria-labelledby="judged-hidden">
            {shown.map((document) => (
              <li key={document.id}>
                <Place document={document} />{" "}
                <span class="muted">
                  (grade {document.grade}
                  {answers.length > 1 && `, ${missingIn(document.id, a, answers[1]!)}`})
                </span>
              </li>
            ))}
          </ul>
          {hidden.length > shown.length && (
            <button class="button small" type="button" onClick={() => setAll(true)}>
              Show all {hidden.length}
            </button>
          )}
        </>
      )}
    </section>
  );
});

/** How many relevant documents the collection holds, how many of them are found, and how many it lacks. */
function summaryOf(held: number, absent: number, found: string): string {
  if (held === 0 && absent === 0) return "no relevant document.";
  if (held === 0) return absent === 1 ? "1 relevant document, which is not in this collection." : `${count(absent)} relevant documents, none of which is in this collection.`;
  const rest = absent > 0 ? ` ${plural(absent, "more relevant document is", "more relevant documents are")} not in this collection.` : "";
  return `${plural(held, "relevant document")}. ${found}${rest}`;
}

function foundOf(grades: Grades, { hits }: Found): number {
  return hits.filter((hit) => (grades.grades[hit.id] ?? 0) > 0).length;
}

function missingIn(id: string, a: Found, b: Found): string {
  const inA = a.hits.some((hit) => hit.id === id);
  const inB = b.hits.some((hit) => hit.id === id);
  return inA ? "not in B" : inB ? "not in A" : "in neither";
}

/** A link to the explanation of where the document is. */
function Place({ document }: { document: RelevantDocument }) {
  const { view, params } = useRoute();
  const name = isolated(document.name);
  return (
    <a href={formatHash({ view, params: { ...params, doc: document.id } })} title="Where is it, and why?">
      {name}
    </a>
  );
}
