/** What to evaluate: judged queries, two sides, a metric, slices. */
import type { EvaluationSetup } from "../evaluation";
import { METRICS } from "../evaluation";
import { plural } from "../format";
import { hashOf } from "../state";
import { useStudio } from "../studio";
import { Select } from "./field";
import { Empty } from "./notice";

export function SetupForm({ setup }: { setup: EvaluationSetup }) {
  const { info, collection } = useStudio();
  if (info.judged.length === 0) return <NoJudgedQueries />;
  const sides = sideChoices(collection.sides, setup.a, setup.b);
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
        <JudgedSelect value={setup.judged} onChange={setup.setJudged} />
        <Select label="Side A, the baseline" mark="a" value={setup.a} choices={sides} onChange={setup.setA} />
        <Select label="Side B" mark="b" value={setup.b} choices={sides} onChange={setup.setB} />
        <Select label="Metric" value={setup.metric} choices={metrics.map(choice)} onChange={setup.setMetric} />
      </div>
      <Slices setup={setup} names={["length", "language", ...collection.fields.filter(isGroup).map((field) => field.key)]} />
      <div class="row">
        <button class="button primary" type="submit" disabled={setup.obstacle !== "" || setup.handle.busy}>
          Evaluate
        </button>
        {setup.obstacle && <p class="hint">{setup.obstacle}</p>}
      </div>
    </form>
  );
}

export function JudgedSelect({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const { info } = useStudio();
  const choices = info.judged.map((one) => ({ value: one.name, label: `${one.name} (${plural(one.queries, "query", "queries")})` }));
  return <Select label="Judged queries" value={value} choices={choices} onChange={onChange} />;
}

export function sideChoices(sides: readonly { id: string; label: string }[], ...used: readonly string[]) {
  const known = sides.map((side) => ({ value: side.id, label: side.label }));
  const edited = used.filter((side) => side.startsWith("yaml:")).map((side) => ({ value: side, label: "edited config" }));
  return [...known, ...edited.filter((one, index) => edited.findIndex((other) => other.value === one.value) === index)];
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
      {info.may.judge && (
        <p>
          You have none? <a href={hashOf("judge")}>Make some here.</a>
        </p>
      )}
    </Empty>
  );
}
