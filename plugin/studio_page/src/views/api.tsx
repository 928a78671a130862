/** The service's HTTP interface, from its /openapi.json. */
import { useState } from "preact/hooks";

import { Copy } from "../parts/copy";
import { TextField } from "../parts/field";
import { Empty, Failure, Loading } from "../parts/notice";
import { useRequest } from "../request";
import { curlOf, limitsOf, namesIn, resolved, typeOf, type OpenApi, type Operation, type Schema } from "../schema";
import { useParam } from "../state";

interface Named {
  name: string;
  method: string;
  path: string;
  operation: Operation;
}

function operationsOf(document: OpenApi): Named[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, method, path, operation })),
  );
}

export function ApiView() {
  const { data, error, loading, reload } = useRequest<OpenApi>((api) => api.get("/../../openapi.json"), []);
  const [wanted, setWanted] = useState("");
  const [open, setOpen] = useParam("op");
  if (error) return <Failure error={error} again={reload} />;
  if (!data) return loading ? <Loading label="Reading the interface" /> : null;
  const text = wanted.trim().toLowerCase();
  const shown = operationsOf(data).filter(({ name, operation }) => `${name} ${operation.summary}`.toLowerCase().includes(text));
  return (
    <>
      <header class="stack">
        <h1>
          HTTP interface <span class="muted small-text">{data.info.title} {data.info.version}</span>
        </h1>
        <p class="muted">
          All that this page shows can be asked by programs too. The document for generators of clients is at{" "}
          <a href="../openapi.json">/openapi.json</a>.
        </p>
        <TextField label="Find a route" value={wanted} onInput={setWanted} placeholder="search" />
      </header>
      {shown.length === 0 && <Empty title="No such route">Nothing contains “{wanted}”.</Empty>}
      <ul class="routes">
        {shown.map((one) => (
          <li key={one.name} class="card">
            <h2 class="route-heading">
              <button
                type="button"
                class="route"
                aria-expanded={open === one.name}
                onClick={() => setOpen(open === one.name ? "" : one.name)}
              >
                <span class="method" data-method={one.method}>
                  {one.method.toUpperCase()}
                </span>
                <code>{one.path}</code>
                <span class="route-summary muted">{one.operation.summary}</span>
              </button>
            </h2>
            {open === one.name && <OperationDetails document={data} {...one} />}
          </li>
        ))}
      </ul>
    </>
  );
}

function schemaOf(content: Record<string, { schema?: Schema }> | undefined): { type: string; schema: Schema } | null {
  const first = Object.entries(content ?? {})[0];
  return first ? { type: first[0], schema: first[1].schema ?? {} } : null;
}

function OperationDetails({ document, method, path, operation }: Named & { document: OpenApi }) {
  const body = schemaOf(operation.requestBody?.content);
  const curl = curlOf(document, method, path, body?.type === "application/json" ? body.schema : undefined);
  const good = Object.entries(operation.responses).filter(([status]) => status < "400");
  const bad = Object.keys(operation.responses).filter((status) => status >= "400");
  return (
    <div class="stack route-body">
      {operation.description && <p>{operation.description}</p>}
      {operation.parameters && operation.parameters.length > 0 && (
        <section>
          <h3>Parameters</h3>
          <Fields
            document={document}
            fields={operation.parameters.map(({ name, required, description, schema, ...rest }) => ({
              name,
              required: required ?? false,
              schema: { ...schema, description: description ?? `in the ${rest.in}` },
            }))}
          />
        </section>
      )}
      {body && (
        <section>
          <h3>
            Body <span class="muted small-text">{body.type}</span>
          </h3>
          <SchemaView document={document} schema={body.schema} />
        </section>
      )}
      {good.map(([status, response]) => {
        const answer = schemaOf(response.content);
        return (
          <section key={status}>
            <h3>
              Answer {status} <span class="muted small-text">{answer?.type}</span>
            </h3>
            {answer && <SchemaView document={document} schema={answer.schema} />}
          </section>
        );
      })}
      {bad.length > 0 && (
        <p class="small-text">
          <b>Errors</b> {bad.join(", ")}: <code>{'{"error": {"message", "type", "param", "code"}}'}</code>. The message says what is wrong, what was
          expected, and what to do.
        </p>
      )}
      <section>
        <div class="row between">
          <h3>In a shell</h3>
          <Copy text={curl} what="curl" />
        </div>
        <pre class="code" tabIndex={0} role="region" aria-label="curl command">
          <code>{curl}</code>
        </pre>
      </section>
    </div>
  );
}

interface FieldRow {
  name: string;
  required: boolean;
  schema: Schema;
}

function SchemaView({ document, schema, depth = 0 }: { document: OpenApi; schema: Schema; depth?: number }) {
  const { schema: own } = resolved(document, schema);
  const fields = Object.entries(own.properties ?? {}).map(([name, field]) => ({
    name,
    required: own.required?.includes(name) ?? false,
    schema: field,
  }));
  if (fields.length) return <Fields document={document} fields={fields} depth={depth} />;
  const named = namesIn(own);
  return (
    <>
      <p class="small-text muted">{own.description ?? typeOf(own)}</p>
      {depth < 6 && named.map((name) => <Inner key={name} document={document} name={name} depth={depth} />)}
    </>
  );
}

function Fields({ document, fields, depth = 0 }: { document: OpenApi; fields: readonly FieldRow[]; depth?: number }) {
  return (
    <div class="table-wrap" tabIndex={depth === 0 ? 0 : undefined} role={depth === 0 ? "region" : undefined} aria-label={depth === 0 ? "Fields" : undefined}>
      <table class="table fields">
        <thead class="visually-hidden">
          <tr>
            <th scope="col">Field</th>
            <th scope="col">Type and meaning</th>
          </tr>
        </thead>
        <tbody>
          {fields.map(({ name, required, schema }) => (
            <tr key={name}>
              <th scope="row">
                <code>{name}</code>
                {required && <span class="tag">required</span>}
              </th>
              <td>
                <span class="mono">{typeOf(schema)}</span> <span class="muted small-text">{limitsOf(schema)}</span>
                {schema.description && <p class="small-text">{schema.description}</p>}
                {depth < 6 && namesIn(schema).map((one) => <Inner key={one} document={document} name={one} depth={depth} />)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A named schema, shown when it is opened: some contain one another. */
function Inner({ document, name, depth }: { document: OpenApi; name: string; depth: number }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="inner" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary class="small-text">{name}</summary>
      {open && <SchemaView document={document} schema={{ $ref: `#/components/schemas/${name}` }} depth={depth + 1} />}
    </details>
  );
}
