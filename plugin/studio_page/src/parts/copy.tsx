import { toast } from "./announce";

/** Copies; without a clipboard (plain HTTP to another machine) by way of a selected text field. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("the browser gives no clipboard");
  return undefined;
}

export function Copy({ text, what, label = "Copy" }: { text: string; what: string; label?: string }) {
  const copy = () =>
    copyText(text).then(
      () => toast(`${what} copied.`),
      () => toast("The browser does not let the page copy. Select the text and copy it by hand.", "error"),
    );
  return (
    <button class="button small" type="button" onClick={copy} aria-label={label.includes(what) ? label : `${label} ${what}`}>
      {label}
    </button>
  );
}
