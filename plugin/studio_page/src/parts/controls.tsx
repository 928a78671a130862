/** The card above the hits: the search box, the two sides, and what narrows the search. */
import { memo } from "preact/compat";
import { useEffect, useState } from "preact/hooks";

import { picture, readRows } from "../question";
import { useParam, useRoute, writeAddress } from "../state";
import { useStore } from "../store";
import { useStudio } from "../studio";
import { toast } from "./announce";
import { copyText } from "./copy";
import { Select, TextField } from "./field";
import { Filters } from "./filters";
import { SearchBar } from "./searchbar";
import { Sides } from "./sides";

const LIMITS = [10, 20, 50, 100];

export const Controls = memo(function Controls({ onDown, code, onCode }: { onDown: () => void; code: string; onCode: () => void }) {
  const { collection } = useStudio();
  const { params } = useRoute();
  const [tenant, setTenant] = useParam("tenant");
  const [limit, setLimit] = useParam("limit", String(collection.limit));
  const rows = readRows(params.f ?? "");
  const [filtering, setFiltering] = useState(rows.length > 0);
  // While the panel is closed nobody edits filters, so those that change have come by a link or by Back.
  useEffect(() => {
    if (rows.length > 0) setFiltering(true);
  }, [params.f]);
  const image = useStore(picture);
  const limits = [...new Set([collection.limit, ...LIMITS])].sort((one, two) => one - two);
  const copyLink = () => {
    writeAddress();
    copyText(location.href).then(
      () => toast(image ? "Link copied. It holds all but the picture." : "Link copied."),
      () => toast("Copy the link from the address bar: the browser does not let the page do it.", "error"),
    );
  };
  return (
    <section class="card stack" aria-label="Question">
      <SearchBar onDown={onDown} />
      <fieldset class="controls">
        <legend class="visually-hidden">Sides and options</legend>
        <Sides />
        {collection.tenants && <TextField label="Tenant" value={tenant} onInput={setTenant} />}
        <Select label="Hits" value={limit} choices={limits.map((one) => ({ value: String(one), label: String(one) }))} onChange={setLimit} />
        <div class="row control-buttons">
          <button class="button" type="button" aria-expanded={filtering} onClick={() => setFiltering(!filtering)}>
            Filters{rows.length > 0 && ` (${rows.length})`}
          </button>
          <button class="button" type="button" aria-expanded={code !== ""} onClick={onCode}>
            Code
          </button>
          <button class="button" type="button" onClick={copyLink}>
            Link
          </button>
        </div>
      </fieldset>
      {filtering && <Filters />}
    </section>
  );
});
