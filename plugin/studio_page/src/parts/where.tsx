import { memo } from "preact/compat";
import { useState } from "preact/hooks";

import { explain } from "../state";
import type { Found } from "../answers";
import { titleOf } from "./hits";

/** Finds a document by its id, also one that no side shows. The ids of the hits are suggested once somebody comes to the field. */
export const Where = memo(function Where({ a, b }: { a: Found | null; b: Found | null }) {
  const [id, setId] = useState("");
  const [suggests, setSuggests] = useState(false);
  const known = new Map(suggests ? [a, b].flatMap((answer) => answer?.hits.map((hit): [string, string] => [hit.id, titleOf(hit)]) ?? []) : []);
  return (
    <form
      class="where row"
      onSubmit={(event) => {
        event.preventDefault();
        if (id.trim()) explain(id.trim());
      }}
    >
      <label class="row">
        <span class="field-label">Where is document…?</span>
        <input
          class="input"
          list="known-ids"
          value={id}
          placeholder="its id"
          onFocus={() => setSuggests(true)}
          onBlur={() => setSuggests(false)}
          onInput={(event) => setId(event.currentTarget.value)}
        />
      </label>
      <datalist id="known-ids">
        {[...known].map(([one, title]) => (
          <option key={one} value={one}>
            {title}
          </option>
        ))}
      </datalist>
      <button class="button" type="submit" disabled={!id.trim()}>
        Find it
      </button>
    </form>
  );
});
