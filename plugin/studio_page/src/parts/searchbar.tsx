import { useRef } from "preact/hooks";

import { picture } from "../question";
import { useShortcuts } from "../keys";
import { useParam } from "../state";
import { useStore } from "../store";
import { useStudio } from "../studio";
import { toast } from "./announce";
import { shrunk } from "./picture";

/** The search box: words, and a picture where a slot takes one (chosen, pasted or dropped). */
export function SearchBar({ onDown }: { onDown: () => void }) {
  const { collection } = useStudio();
  const [text, setText] = useParam("q");
  const box = useRef<HTMLInputElement>(null);
  const file = useRef<HTMLInputElement>(null);
  const untouched = useRef(true); // the box has the focus when the page opens, and the key that goes to it is no text then
  const image = useStore(picture);
  const pictures = collection.accepts.includes("image");
  const words = collection.accepts.includes("text") || !collection.accepts.length;
  useShortcuts([{ keys: "/", label: "Go to the search box", run: () => (box.current?.focus(), box.current?.select()) }], []);

  const take = (list: FileList | null | undefined) => {
    const found = [...(list ?? [])].find((one) => one.type.startsWith("image/"));
    if (!found || !pictures) return false;
    shrunk(found).then(
      (url) => picture.set(url),
      () => toast(`${found.name} is no picture that this browser can read.`, "error"),
    );
    return true;
  };
  return (
    <search
      class="searchbar"
      onDragOver={(event) => pictures && event.preventDefault()}
      onDrop={(event) => take(event.dataTransfer?.files) && event.preventDefault()}
    >
      <form class="searchbox" onSubmit={(event) => event.preventDefault()}>
        {image && (
          <button class="picked" type="button" onClick={() => picture.set(null)} aria-label="Remove the picture from the query" title="Remove the picture">
            <img src={image} alt="" />
            <span aria-hidden="true">✕</span>
          </button>
        )}
        <label class="visually-hidden" for="query">
          Query
        </label>
        <input
          id="query"
          ref={box}
          class="query"
          type="search"
          value={text}
          placeholder={words ? "Type a query" : "This collection takes pictures"}
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          autofocus
          onInput={(event) => setText(event.currentTarget.value)}
          onPaste={(event) => take(event.clipboardData?.files) && event.preventDefault()}
          onKeyDown={(event) => {
            if (event.key === "/" && untouched.current && event.currentTarget.value === "") event.preventDefault();
            untouched.current = false;
            if (event.key === "ArrowDown") (event.preventDefault(), onDown());
          }}
        />
        {pictures && (
          <>
            <button class="button" type="button" onClick={() => file.current?.click()}>
              Picture…
            </button>
            <input
              ref={file}
              class="visually-hidden"
              type="file"
              accept="image/*"
              tabIndex={-1}
              aria-label="Picture of the query"
              onChange={(event) => (take(event.currentTarget.files), (event.currentTarget.value = ""))}
            />
          </>
        )}
        <kbd aria-hidden="true" class="wide-only">
          /
        </kbd>
      </form>
    </search>
  );
}
