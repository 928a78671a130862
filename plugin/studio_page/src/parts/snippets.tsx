import { NONE, sideOf, type Asked } from "../question";
import { useRequest } from "../request";
import { useParam } from "../state";
import type { Snippets as Answer } from "../answers";
import { Copy } from "./copy";
import { Segments } from "./field";
import { Failure, Loading } from "./notice";

const LANGUAGES = [
  { value: "yaml", label: "YAML" },
  { value: "python", label: "Python" },
] as const;

/** The query as text for a config and as a program. */
export function Snippets({ asked }: { asked: Asked }) {
  const [language, setLanguage] = useParam("code");
  const [name, setName] = useParam("of", "a");
  const side = name === "b" && asked.b !== NONE ? asked.b : asked.a;
  const body = asked.question && { ...asked.question, side: sideOf(side) };
  const { data, error, loading, reload } = useRequest<Answer>(body ? (api) => api.post("/snippets", body) : null, [body], 200);
  const shown = LANGUAGES.find((one) => one.value === language) ?? LANGUAGES[0];
  const text = data ? data[shown.value] : "";
  return (
    <section class="card" aria-label="The query as code">
      <header class="row between">
        <div class="row">
          <Segments label="Form" value={shown.value} choices={LANGUAGES} onChange={setLanguage} />
          {asked.b !== NONE && (
            <Segments
              label="Side"
              value={name === "b" ? "b" : "a"}
              choices={[
                { value: "a", label: "A" },
                { value: "b", label: "B" },
              ]}
              onChange={setName}
            />
          )}
        </div>
        {text && <Copy text={text} what={shown.label} />}
      </header>
      {error && <Failure error={error} again={reload} />}
      {!asked.question && <p class="muted">Type a query to see it as code.</p>}
      {!data && loading && asked.question && <Loading label="Writing the code" />}
      {text && (
        <pre class="code" tabIndex={0} role="region" aria-label={`${shown.label} of the query`}>
          <code>{text}</code>
        </pre>
      )}
    </section>
  );
}
