import { useEffect, useState } from "preact/hooks";

import { NONE, YAML, sidesOf } from "../question";
import { setParams, useRoute } from "../state";
import { useStudio } from "../studio";
import { Dialog } from "./dialog";
import { Select } from "./field";

const EDIT = "edit";
const TEMPLATE = "retrieve: {NAME: 100}\nlimit: 10\n";

/** Chooses the two sides: one of the collection's, a search section written here, or (for B) none. */
export function Sides() {
  const { collection } = useStudio();
  const { params } = useRoute();
  const { a, b } = sidesOf(collection, params);
  const [edited, setEdited] = useState<"a" | "b" | null>(null);
  const choices = (side: string, withNone: boolean) => [
    ...collection.sides.map(({ id, label }) => ({ value: id, label })),
    ...(side.startsWith(YAML) ? [{ value: side, label: "edited config" }] : []),
    { value: EDIT, label: side.startsWith(YAML) ? "edit this config…" : "other config…" },
    ...(withNone ? [{ value: NONE, label: "nothing: one list" }] : []),
  ];
  const choose = (name: "a" | "b", value: string) => (value === EDIT ? setEdited(name) : setParams({ [name]: value }, { replace: false }));
  return (
    <>
      <Select label="Side A" value={a} choices={choices(a, false)} mark="a" opens={EDIT} onChange={(value) => choose("a", value)} />
      <button
        class="button swap-sides"
        type="button"
        aria-label="Exchange A and B"
        title="Exchange A and B"
        disabled={b === NONE}
        onClick={() => setParams({ a: b, b: a }, { replace: false })}
      >
        ⇄
      </button>
      <Select label="Side B" value={b} choices={choices(b, true)} mark="b" opens={EDIT} onChange={(value) => choose("b", value)} />
      {edited && (
        <ConfigDialog
          name={edited}
          before={edited === "a" ? a : b}
          slot={collection.slots[0]?.name ?? "dense"}
          onClose={() => setEdited(null)}
        />
      )}
    </>
  );
}

function ConfigDialog({ name, before, slot, onClose }: { name: "a" | "b"; before: string; slot: string; onClose: () => void }) {
  const [yaml, setYaml] = useState(before.startsWith(YAML) ? before.slice(YAML.length) : TEMPLATE.replace("NAME", slot));
  useEffect(() => document.getElementById("side-config")?.focus(), []);
  return (
    <Dialog title={`Side ${name.toUpperCase()}: a search section`} onClose={onClose}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          setParams({ [name]: YAML + yaml }, { replace: false });
          onClose();
        }}
      >
        <label class="field-label" for="side-config">
          What stands below <code>search:</code> in a config file. It is asked, not saved.
        </label>
        <textarea id="side-config" class="input mono" rows={10} spellcheck={false} value={yaml} onInput={(event) => setYaml(event.currentTarget.value)} />
        <div class="row">
          <button class="button primary" type="submit" disabled={!yaml.trim()}>
            Ask with it
          </button>
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}
