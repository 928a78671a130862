/** Schemas of an OpenAPI document in words. */

/** As much of OpenAPI 3.1 as the service's document uses. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  title?: string;
  description?: string;
  default?: unknown;
  const?: unknown;
  enum?: unknown[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  additionalProperties?: boolean | Schema;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  prefixItems?: Schema[];
}

export interface Content {
  content?: Record<string, { schema?: Schema }>;
  description?: string;
}

export interface Parameter {
  name: string;
  in: string;
  required?: boolean;
  description?: string;
  schema?: Schema;
}

export interface Operation {
  summary?: string;
  description?: string;
  parameters?: Parameter[];
  requestBody?: Content;
  responses: Record<string, Content>;
}

export interface OpenApi {
  openapi: string;
  info: { title: string; version: string; summary?: string };
  paths: Record<string, Record<string, Operation>>;
  components?: { schemas?: Record<string, Schema> };
}

/** The schema that a `$ref` names, and its name. */
export function resolved(document: OpenApi, schema: Schema): { name: string; schema: Schema } {
  const name = schema.$ref?.split("/").at(-1) ?? "";
  return { name, schema: name ? (document.components?.schemas?.[name] ?? {}) : schema };
}

/** The schemas that a value may have: those of `anyOf` and `oneOf` without null. */
export function alternatives(schema: Schema): Schema[] {
  const options = schema.anyOf ?? schema.oneOf;
  return options ? options.filter((option) => option.type !== "null").flatMap(alternatives) : [schema];
}

/** For instance "string or array of string"; that it may be null is left out, as it may be left out itself. */
export function typeOf(schema: Schema): string {
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return [...new Set(options.filter((option) => option.type !== "null").map(typeOf))].join(" or ");
  if (schema.$ref) return schema.$ref.split("/").at(-1) ?? "object";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return `array of ${schema.items ? typeOf(schema.items) : "any"}`;
  if (typeof schema.additionalProperties === "object") return `object of ${typeOf(schema.additionalProperties)}`;
  return [schema.type ?? "any"].flat().join(" or ");
}

/** What a value must hold to beside its type. */
export function limitsOf(schema: Schema): string {
  const said = alternatives(schema).flatMap((one) => [
    one.minimum !== undefined ? `at least ${one.minimum}` : "",
    one.maximum !== undefined ? `at most ${one.maximum}` : "",
    one.maxLength !== undefined ? `at most ${one.maxLength} characters` : "",
    one.maxItems !== undefined ? `at most ${one.maxItems} items` : "",
  ]);
  const preset = schema.default !== undefined && schema.default !== null ? [`default ${JSON.stringify(schema.default)}`] : [];
  return [...new Set([...said.filter(Boolean), ...preset])].join(", ");
}

/** The named schemas that a schema uses directly. */
export function namesIn(schema: Schema): string[] {
  const inner = [
    ...(schema.anyOf ?? []),
    ...(schema.oneOf ?? []),
    ...(schema.allOf ?? []),
    ...(schema.prefixItems ?? []),
    ...(schema.items ? [schema.items] : []),
    ...(typeof schema.additionalProperties === "object" ? [schema.additionalProperties] : []),
  ];
  const own = schema.$ref?.split("/").at(-1);
  return [...new Set([...(own ? [own] : []), ...inner.flatMap(namesIn)])];
}

/** A call of an operation in a shell, with the fields that it requires. */
export function curlOf(document: OpenApi, method: string, path: string, body: Schema | undefined): string {
  const url = `${location.origin}${path.replace(/\{(\w+)(?::\w+)?\}/g, (_, name: string) => name.toUpperCase())}`;
  const call = method === "get" ? `curl '${url}'` : `curl -X ${method.toUpperCase()} '${url}'`;
  if (!body) return call;
  const { schema } = resolved(document, body);
  const required = schema.required ?? Object.keys(schema.properties ?? {}).slice(0, 2);
  const given = Object.fromEntries(required.map((name) => [name, exampleOf(document, schema.properties?.[name] ?? {}, name)]));
  return `${call} \\\n  -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(given).replaceAll("'", "'\\''")}'`;
}

function exampleOf(document: OpenApi, given: Schema, name: string): unknown {
  const { schema } = resolved(document, alternatives(given)[0] ?? given);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.type === "array") return [exampleOf(document, schema.items ?? {}, name)];
  if (schema.type === "integer" || schema.type === "number") return schema.minimum ?? 1;
  if (schema.type === "boolean") return schema.default ?? false;
  if (schema.type === "object") {
    return Object.fromEntries((schema.required ?? []).map((key) => [key, exampleOf(document, schema.properties?.[key] ?? {}, key)]));
  }
  return name.toUpperCase();
}
