/** What to evaluate: judged queries, two sides, a metric, slices. */
import type { EvaluationSetup } from "../evaluation";
import { METRICS } from "../evaluation";
import { plural } from "../format";
import { NONE, YAML } from "../question";
import { hashOf, lastParams, useParam } from "../state";
import { useStudio } from "../studio";
import type { QuerySetFacts } from "../answers";
import { AbsentSides } from "./absentsides";
import { Select, TextField } from "./field";
import { Empty } from "./notice";

export function SetupForm({ setup }: { setup: EvaluationSetup }) {
  const { info, collection } = useStudio();
  if (info.judged.length === 0) return <NoJudgedQueries />;
  const metrics = METRICS.includes(setup.metric) ? METRICS : [setup.metric, ...METRICS];
  return (
    <form
      class="card setup"
      aria-label="What to evaluate"
      onSubmit={(event) => {
        event.preventDefault();
        if (!setup.obstacle && !setup.handle.busy) setup.start();
      }}
    >
      <div class="fields">
        <QuerySetSelect label="Judged queries" value={setup.judged} onChange={setup.setJudged} />
        <SideSelects {...setup} />
        <Select label="Metric" value={setup.metric} choices={metrics.map(choice)} onChange={setup.setMetric} />
      </div>
      <AbsentSides {...setup} />
      <Slices setup={setup} names={["length", "language", ...collection.fields.filter(isGroup).map((field) => field.key)]} />
      <div class="row">
        <button class="button primary" type="submit" disabled={setup.obstacle !== ""} aria-disabled={setup.handle.busy}>
          Evaluate
        </button>
        {setup.obstacle && <p class="hint">{setup.obstacle}</p>}
      </div>
    </form>
  );
}

interface QuerySetProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
}

export function QuerySetSelect({ label, value, onChange }: QuerySetProps) {
  const { info } = useStudio();
  return <Select label={label} value={value} choices={info.judged.map((set) => ({ value: set.name, label: describe(set) }))} onChange={onChange} />;
}

function describe({ name, queries, judged, error }: QuerySetFacts): string {
  if (error) return `${name} (cannot be read)`;
  if (queries === undefined) return name;
  const count = plural(queries, "query", "queries");
  return judged === undefined || judged === queries ? `${name} (${count})` : `${name} (${count}, ${judged} judged)`;
}

interface SidesProps {
  a: string;
  b: string;
  setA: (side: string) => void;
  setB: (side: string) => void;
}

/** The two sides, and the tenant where documents have one. A config that was edited in Compare can be chosen here too. */
export function SideSelects({ a, b, setA, setB }: SidesProps) {
  const { collection } = useStudio();
  const [tenant, setTenant] = useParam("tenant");
  const known = collection.sides.map((side) => ({ value: side.id, label: side.label }));
  const edited = [...new Set([a, b])].filter((side) => side.startsWith(YAML)).map((side) => ({ value: side, label: "edited config" }));
  const choices = [...known, ...edited];
  const choose = { value: NONE, label: "choose one" };
  return (
    <>
      <Select label="Side A, the baseline" mark="a" value={a} choices={choices} onChange={setA} />
      <Select label="Side B" mark="b" value={b} choices={b === NONE ? [choose, ...choices] : choices} onChange={setB} />
      {collection.tenants && <TextField label="Tenant" value={tenant} onInput={setTenant} />}
    </>
  );
}

function Slices({ setup, names }: { setup: EvaluationSetup; names: readonly string[] }) {
  const toggle = (name: string) =>
    setup.setSlices(setup.slices.includes(name) ? setup.slices.filter((one) => one !== name) : [...setup.slices, name]);
  return (
    <fieldset class="slices">
      <legend class="field-label">Also within groups of queries, by</legend>
      {names.map((name) => (
        <label key={name}>
          <input type="checkbox" checked={setup.slices.includes(name)} onChange={() => toggle(name)} /> {name}
        </label>
      ))}
    </fieldset>
  );
}

function choice(value: string) {
  return { value, label: value };
}

function isGroup(field: { type: string }): boolean {
  return field.type === "keyword" || field.type === "bool";
}

export function NoJudgedQueries() {
  const { info } = useStudio();
  return (
    <Empty title="No judged queries to measure with">
      <p>
        Start Studio with a folder of queries and judgements: <code>diptych studio --queries FOLDER</code>.
      </p>
      {info.may_judge && (
        <p>
          You have none? <a href={hashOf("judge", lastParams("judge"))}>Make some here.</a>
        </p>
      )}
    </Empty>
  );
}
