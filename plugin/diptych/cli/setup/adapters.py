"""`diptych adapters`: what can be used, and with which options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args

import typer
from rich.table import Table

from diptych.cli.setup.template import scalar
from diptych.cli.ui.options import JsonOption
from diptych.cli.ui.output import stdout, table, write_json
from diptych.cli.ui.session import Session
from diptych.plugins.extras import missing
from diptych.protocols import Kind
from diptych.specs import AdapterSpec

NARROW = 100  # columns of a terminal below which kinds become headings
WORDS = {"int": "integer", "float": "number", "str": "text", "bool": "boolean"}


def adapters(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show the options of this adapter.", show_default=False)] = None,
    *,
    kind: Annotated[
        Kind | None, typer.Option(metavar="KIND", help=f"Only this kind: {', '.join(get_args(Kind))}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the adapters of all installed plugins, or the options of one.

    [dim]Examples:[/dim]

      diptych adapters

      diptych adapters --kind reranker

      diptych adapters bm25
    """
    session: Session = context.obj
    if name is not None:
        return _show_one(session, session.registry.spec(name), as_json)
    rows = [_row(session, spec) for spec in session.registry.specs() if kind in (None, spec.kind)]
    if as_json:
        return write_json({"adapters": rows})
    return _show_all(rows)


def _show_all(rows: Sequence[Mapping[str, Any]]) -> None:
    """One table, by kind where it is too narrow for a column of kinds; names are never broken."""
    console = stdout()
    is_narrow, sources = console.width < NARROW, len({row["source"] for row in rows}) > 1
    columns = {"adapter": True, "kind": not is_narrow, "what it is": True, "ready": True, "from": sources}
    listing = table(*(name for name, is_shown in columns.items() if is_shown))
    for column in listing.columns:
        column.no_wrap = column.header != "what it is"
    kind = ""
    for row in rows:
        if is_narrow and row["kind"] != kind:
            kind = row["kind"]
            listing.add_row(f"{kind}:")
        cells = dict(zip(columns, (row["name"], row["kind"], row["summary"], _ready(row), row["source"]), strict=True))
        listing.add_row(*(cells[name] for name, is_shown in columns.items() if is_shown))
    console.print(listing)
    for install in sorted({row["missing"] for row in rows if row["missing"]}):
        console.print(install, style="dim", soft_wrap=True)


def _ready(row: Mapping[str, Any]) -> str:
    """`yes`, or the name of the extra that is missing: `torch`."""
    if not row["missing"]:
        return "yes"
    package = str(row["missing"]).removeprefix("pip install ").strip("'")
    return f"needs {package.removeprefix('diptych[').removesuffix(']')}"


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
    from diptych.plugins.factory import options_model

    model = options_model(spec)
    schema = model.model_json_schema() if model else None if missing(spec) else _schema_of_factory(spec)
    row = {**_row(session, spec), "facts": dict(spec.facts), "factory": spec.factory, "options": schema}
    if as_json:
        return write_json(row)
    console = stdout()
    console.print(f"{spec.name} ({spec.kind}): {spec.summary}", style="bold")
    console.print(f"from {row['source']}; {row['missing'] or 'ready to use'}")
    if schema is None:
        console.print("options: whatever its factory takes; it declares none")
        return None
    if not schema["properties"]:
        console.print("options: none")
        return None
    required = schema.get("required", [])
    console.print(options_table((name, facts, name in required) for name, facts in schema["properties"].items()))
    return None


def options_table(options: Iterable[tuple[str, dict[str, Any], bool]]) -> Table:
    """Options by name, facts in the form of a JSON Schema, and whether they are required."""
    listing = table("option", "type", "default", "meaning")
    listing.columns[0].no_wrap = True
    for name, facts, is_required in options:
        default = facts.get("default")
        shown = "required" if is_required else "" if default is None else scalar(default)
        listing.add_row(name, type_of(facts), shown, facts.get("description", ""))
    return listing


def _schema_of_factory(spec: AdapterSpec) -> dict[str, Any] | None:
    """The parameters of the adapter's factory in the form of a JSON Schema, None when it takes anything."""
    from diptych.plugins.factory import factory_parameters

    parameters = factory_parameters(spec)
    if parameters is None:
        return None
    empty = inspect.Parameter.empty
    properties = {p.name: _facts(p) for p in parameters}
    return {"properties": properties, "required": [p.name for p in parameters if p.default is empty]}


def _facts(parameter: inspect.Parameter) -> dict[str, Any]:
    empty, annotation = inspect.Parameter.empty, parameter.annotation
    name = getattr(annotation, "__name__", annotation) if annotation is not empty else ""
    facts: dict[str, Any] = {"type": WORDS.get(str(name), str(name))} if name else {}
    return facts if parameter.default is empty else {**facts, "default": parameter.default}


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
