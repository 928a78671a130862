import { useState } from "preact/hooks";

import { giveKey } from "../api";
import { Dialog } from "./dialog";
import { TextField } from "./field";
import { Notice } from "./notice";

/** Asks for the service's key; it stays in this tab's memory. */
export function KeyDialog({ refused }: { refused: boolean }) {
  const [key, setKey] = useState("");
  return (
    <Dialog title="This service wants a key" onClose={() => undefined} closable={false}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          if (key.trim()) giveKey(key.trim());
        }}
      >
        {refused && <Notice kind="error">The service refused the key that was given.</Notice>}
        <TextField
          label="API key"
          type="password"
          value={key}
          onInput={setKey}
          hint="The key the service was started with. It is kept in this tab until you close it, and sent only to this server."
        />
        <div>
          <button class="button primary" type="submit" disabled={!key.trim()}>
            Open
          </button>
        </div>
      </form>
    </Dialog>
  );
}
