"""`diptych adapters`: what can be used, and with which options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Annotated, Any, get_args

import typer

from diptych.cli.options import JsonOption, option
from diptych.cli.output import show, write_json
from diptych.cli.run_command import Session
from diptych.config.load import in_one_line
from diptych.display import Display, Table
from diptych.factory import missing
from diptych.protocols import Kind
from diptych.specs import AdapterSpec

WORDS = {"int": "integer", "float": "number", "str": "text", "bool": "boolean"}


def adapters(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Show the options of this adapter.", show_default=False)] = None,
    kind: Annotated[Kind | None, option(f"Only this kind: {', '.join(get_args(Kind))}.", metavar="KIND")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the adapters of all installed plugins, or the options of one.

    [dim]Examples:[/dim]

      diptych adapters

      diptych adapters --kind reranker

      diptych adapters bm25
    """
    if name is not None:
        return _show_one(session, session.registry.spec(name), as_json)
    rows = [_row(session, spec) for spec in session.registry.specs() if kind in (None, spec.kind)]
    if as_json:
        return write_json({"adapters": rows})
    sources, listed = {row["source"] for row in rows}, list[tuple[str, ...]]()
    for row in rows:
        package = str(row["missing"]).removeprefix("pip install ").strip("'")
        ready = f"needs {package.removeprefix('diptych[').removesuffix(']')}" if package else "yes"
        listed.append((row["name"], row["kind"], row["summary"], ready, row["source"]))
    width = 5 if len(sources) > 1 else 4
    table = Table(("adapter", "kind", "what it is", "ready", "from")[:width], [row[:width] for row in listed])
    return show(Display("", [table, *sorted({row["missing"] for row in rows if row["missing"]})]))


def _row(session: Session, spec: AdapterSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "kind": spec.kind,
        "summary": spec.summary,
        "missing": missing(spec),
        "remote": spec.remote,
        "source": session.registry.source(spec.name),
    }


def _show_one(session: Session, spec: AdapterSpec, as_json: bool) -> None:
    from diptych.factory import alike, option_schemas

    variants = [variants[0][1] for variants in alike(spec)]
    schemas = [
        schema if schema or missing(variant) else _schema_of_factory(variant)
        for variant, schema in zip(variants, option_schemas(spec), strict=True)
    ]
    options = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
    row = {**_row(session, spec), "facts": dict(spec.facts), "factory": spec.factory, "options": options}
    if as_json:
        return write_json(row)
    listed: list[Table | str] = []
    for schema in schemas:
        if schema is None or not schema["properties"]:
            listed.append("options: none" if schema else "options: whatever its factory takes; it declares none")
        else:
            facts, required = schema["properties"], schema.get("required", [])
            listed.append(options_table((name, facts[name], name in required) for name in facts))
    ready = " or ".join(dict.fromkeys(missing(variant) or "ready to use" for variant in variants))
    return show(Display(f"{spec.name} ({spec.kind}): {spec.summary}", [f"from {row['source']}; {ready}", *listed]))


def options_table(options: Iterable[tuple[str, dict[str, Any], bool]]) -> Table:
    """Options by name, facts in the form of a JSON Schema, and whether they are required."""
    rows = []
    for name, facts, is_required in options:
        default = facts.get("default")
        shown = "required" if is_required else "" if default is None else in_one_line(default)
        rows.append((name, type_of(facts), shown, facts.get("description", "")))
    return Table(("option", "type", "default", "meaning"), rows)


def _schema_of_factory(spec: AdapterSpec) -> dict[str, Any] | None:
    """The parameters of the adapter's factory in the form of a JSON Schema, None when it takes anything."""
    from diptych.factory import factory_parameters

    parameters = factory_parameters(spec)
    if parameters is None:
        return None
    empty, properties = inspect.Parameter.empty, dict[str, dict[str, Any]]()
    for parameter in parameters:
        name = "" if parameter.annotation is empty else getattr(parameter.annotation, "__name__", parameter.annotation)
        facts: dict[str, Any] = {"type": WORDS.get(str(name), str(name))} if name else {}
        properties[parameter.name] = facts | ({} if parameter.default is empty else {"default": parameter.default})
    return {"properties": properties, "required": [p.name for p in parameters if p.default is empty]}


def type_of(facts: dict[str, Any]) -> str:
    """A JSON Schema's type in a few words: `integer`, `cpu | cuda`, `text or null`."""
    if "enum" in facts:
        return " | ".join(map(str, facts["enum"]))
    if "const" in facts:
        return str(facts["const"])
    if "anyOf" in facts:
        return " or ".join(type_of(option) for option in facts["anyOf"])
    if "oneOf" in facts:
        return " or ".join(type_of(option) for option in facts["oneOf"])
    if facts.get("type") == "array":
        return f"list of {type_of(facts.get('items', {}))}"
    return str(facts.get("type") or facts.get("$ref", "any").rpartition("/")[2]).replace("string", "text")
