/** Labelled form fields. */
import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";

export interface Choice {
  value: string;
  label: string;
}

export interface SelectProps {
  label: string;
  value: string;
  choices: readonly Choice[];
  onChange: (value: string) => void;
  /** Keeps the label for screen readers only. */
  hideLabel?: boolean;
  mark?: "a" | "b";
  /** A choice that opens something: typing in the closed list must not take it, only Enter, a space or a press. */
  opens?: string;
  /** For very many choices: all but the chosen one are drawn when somebody comes to the list. */
  lazy?: boolean;
}

export function Select({ label, value, choices, onChange, hideLabel = false, mark, opens, lazy = false }: SelectProps) {
  const id = useId();
  const [drawn, setDrawn] = useState(!lazy);
  const draw = () => setDrawn(true);
  const key = useRef("");
  const choose = (select: HTMLSelectElement) => {
    const chosen = select.value;
    if (chosen === opens) {
      select.value = value; // what it opens decides
      if (key.current && key.current !== "Enter" && key.current !== " ") return;
    }
    onChange(chosen);
  };
  return (
    <div class="field">
      <label for={id} class={hideLabel ? "visually-hidden" : "field-label"}>
        {label}
      </label>
      <select
        id={id}
        class="input"
        data-side={mark}
        value={value}
        onKeyDown={(event) => (key.current = event.key)}
        onPointerEnter={draw}
        onPointerDown={() => (draw(), (key.current = ""))}
        onFocus={draw}
        onBlur={() => (key.current = "")}
        onChange={(event) => choose(event.currentTarget)}
      >
        {(drawn ? choices : choices.filter((choice) => choice.value === value)).map((choice) => (
          <option key={choice.value} value={choice.value}>
            {choice.label}
          </option>
        ))}
      </select>
    </div>
  );
}

export interface TextFieldProps {
  label: string;
  value: string;
  onInput: (value: string) => void;
  placeholder?: string;
  type?: "text" | "password";
  hint?: ComponentChildren;
}

export function TextField({ label, value, onInput, placeholder, type = "text", hint }: TextFieldProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id} class="field-label">
        {label}
      </label>
      <input
        id={id}
        class="input"
        type={type as "text"}
        value={value}
        placeholder={placeholder}
        autocomplete="off"
        spellcheck={false}
        aria-describedby={hint ? `${id}-hint` : undefined}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      {hint && (
        <p id={`${id}-hint`} class="hint">
          {hint}
        </p>
      )}
    </div>
  );
}

/** A few choices side by side, one of them pressed. */
export function Segments({ label, value, choices, onChange }: Omit<SelectProps, "hideLabel" | "mark">) {
  return (
    <div class="segments" role="group" aria-label={label}>
      {choices.map((choice) => (
        <button
          key={choice.value}
          type="button"
          class="segment"
          aria-pressed={choice.value === value}
          onClick={() => onChange(choice.value)}
        >
          {choice.label}
        </button>
      ))}
    </div>
  );
}
