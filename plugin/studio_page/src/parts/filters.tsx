import { useEffect, useRef } from "preact/hooks";

import { readRows, type FilterRow, type Operator } from "../question";
import { useParam } from "../state";
import { useStudio } from "../studio";

const OPERATORS: readonly { value: Operator; label: string }[] = [
  { value: "is", label: "is" },
  { value: "not", label: "is not" },
  { value: "from", label: "is at least" },
  { value: "to", label: "is at most" },
];

/** Rows of "field, comparison, value", all of which must hold. */
export function Filters() {
  const { collection } = useStudio();
  const [text, setText] = useParam("f");
  const rows = readRows(text);
  const write = (next: FilterRow[]) => setText(next.length ? JSON.stringify(next) : "");
  const change = (at: number, patch: Partial<{ key: string; operator: Operator; value: string }>) =>
    write(rows.map((row, index) => (index === at ? [patch.key ?? row[0], patch.operator ?? row[1], patch.value ?? row[2]] : row)));
  const list = useRef<HTMLFieldSetElement>(null);
  const added = useRef(false);
  useEffect(() => {
    if (added.current) list.current?.querySelector<HTMLInputElement>(".filter:last-of-type input")?.focus();
    added.current = false;
  }, [rows.length]);
  const first = collection.fields[0]?.key ?? "";
  return (
    <fieldset class="filters" ref={list}>
      <legend class="field-label">Filters</legend>
      <datalist id="filter-fields">
        {collection.fields.map((field) => (
          <option key={field.key} value={field.key}>
            {field.type}
          </option>
        ))}
      </datalist>
      {rows.map(([key, operator, value], at) => (
        <div class="filter" key={at}>
          <input
            class="input"
            list="filter-fields"
            aria-label={`Field of filter ${at + 1}`}
            placeholder="field"
            value={key}
            onInput={(event) => change(at, { key: event.currentTarget.value })}
          />
          <select
            class="input"
            aria-label={`Comparison of filter ${at + 1}`}
            value={operator}
            onChange={(event) => change(at, { operator: event.currentTarget.value as Operator })}
          >
            {OPERATORS.map((one) => (
              <option key={one.value} value={one.value}>
                {one.label}
              </option>
            ))}
          </select>
          <input
            class="input"
            aria-label={`Value of filter ${at + 1}`}
            placeholder="value"
            value={value}
            onInput={(event) => change(at, { value: event.currentTarget.value })}
          />
          <button class="button quiet" type="button" aria-label={`Remove filter ${at + 1}`} onClick={() => write(rows.filter((_, index) => index !== at))}>
            ✕
          </button>
        </div>
      ))}
      <button
        class="button small"
        type="button"
        onClick={() => {
          added.current = true;
          write([...rows, [first, "is", ""]]);
        }}
      >
        Add a filter
      </button>
    </fieldset>
  );
}
