"""Writes `src/answers.ts`: the types of Studio's requests and answers, from the OpenAPI document of the service.

`make studio-page` runs it before it builds the page; a test compares what it makes with the committed file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diptych_serve.service.answers import openapi
from diptych_serve.studio.routes import OPERATIONS

TARGET = Path(__file__).parent / "src" / "answers.ts"
HEAD = "/** Requests and answers of /studio/api, made of its OpenAPI document by `make studio-page`: do not edit. */\n"
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def typescript() -> str:
    """The text of the file."""
    document = openapi(OPERATIONS)
    schemas = document["components"]["schemas"]
    bodies = [own.get("requestBody") for path in document["paths"].values() for own in path.values()]
    asked = set(_names(bodies, schemas))
    return HEAD + "".join(f"\n{_declared(name, schemas[name], name in asked)}" for name in sorted(schemas))


def _names(part: Any, schemas: Mapping[str, Any]) -> Iterator[str]:
    """The schemas that a part of the document refers to, and those that these refer to."""
    if isinstance(part, Mapping):
        if reference := part.get("$ref"):
            name = str(reference).rpartition("/")[2]
            yield name
            yield from _names(schemas[name], schemas)
        for own in part.values():
            yield from _names(own, schemas)
    elif isinstance(part, list):
        for own in part:
            yield from _names(own, schemas)


def _declared(name: str, schema: Mapping[str, Any], asked: bool) -> str:
    """An interface. What is asked may leave out what has a default; an answer holds every field."""
    if "properties" not in schema:
        return f"{_comment(schema, '')}export type {name} = {_type(schema)};\n"
    required = schema.get("required", ())
    lines = [
        f"{_comment(own, '  ')}  {field}{'?' if asked and field not in required else ''}: {_type(own)};\n"
        for field, own in schema["properties"].items()
    ]
    return f"{_comment(schema, '')}export interface {name} {{\n{''.join(lines)}}}\n"


def _comment(schema: Mapping[str, Any], indent: str) -> str:
    text = " ".join(schema.get("description", "").partition("\n\nArgs:")[0].split()).replace("*/", "* /")
    return f"{indent}/** {text} */\n" if text else ""


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if options := schema.get("anyOf", schema.get("oneOf")):
        return " | ".join(dict.fromkeys(map(_type, options)))
    if "const" in schema or "enum" in schema:
        return " | ".join(map(json.dumps, schema.get("enum", [schema.get("const")])))
    kind = schema.get("type")
    if kind == "array" and "prefixItems" in schema:
        return f"[{', '.join(map(_type, schema['prefixItems']))}]"
    if kind == "array":
        item = _type(schema.get("items", {}))
        return f"({item})[]" if " | " in item else f"{item}[]"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"Record<string, {_type(values) if isinstance(values, Mapping) else 'unknown'}>"
    return PLAIN.get(str(kind), "unknown")


if __name__ == "__main__":
    TARGET.write_text(typescript())
