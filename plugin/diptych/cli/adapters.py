"""`diptych adapters`: what can be used, and with which options."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from diptych.cli.options import DebugOption, JsonOption
from diptych.cli.output import stdout, table, write_json
from diptych.cli.session import Session
from diptych.cli.wheels import missing
from diptych.protocols import Kind
from diptych.specs import AdapterSpec


def adapters(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show the options of this adapter.", show_default=False)] = None,
    *,
    kind: Annotated[Kind | None, typer.Option(help="Only adapters of this kind.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
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
    listing = table("adapter", "kind", "what it is", "ready", "from")
    for row in rows:
        listing.add_row(row["name"], row["kind"], row["summary"], row["missing"] or "yes", row["source"])
    stdout().print(listing)
    return None


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
    from diptych.factories import options_model

    model = options_model(spec)
    schema = model.model_json_schema() if model else None
    row = {**_row(session, spec), "facts": dict(spec.facts), "factory": spec.factory, "options": schema}
    if as_json:
        return write_json(row)
    console = stdout()
    console.print(f"{spec.name} ({spec.kind}): {spec.summary}", style="bold")
    console.print(f"from {row['source']}; {row['missing'] or 'ready to use'}")
    if schema is None:
        console.print("options: whatever its factory takes; it declares none")
        return None
    listing = table("option", "type", "default", "meaning")
    required = schema.get("required", [])
    for option, facts in schema.get("properties", {}).items():
        default = "required" if option in required else _shown(facts.get("default"))
        listing.add_row(option, type_of(facts), default, facts.get("description", ""))
    console.print(listing)
    return None


def type_of(facts: dict[str, Any]) -> str:
    """A JSON Schema's type in a few words: `integer`, `cpu | cuda`, `text or null`."""
    if "enum" in facts:
        return " | ".join(map(str, facts["enum"]))
    if "const" in facts:
        return str(facts["const"])
    if "anyOf" in facts:
        return " or ".join(type_of(option) for option in facts["anyOf"])
    if facts.get("type") == "array":
        return f"list of {type_of(facts.get('items', {}))}"
    return str(facts.get("type") or facts.get("$ref", "any").rpartition("/")[2]).replace("string", "text")


def _shown(value: object) -> str:
    return "" if value is None else str(value)
