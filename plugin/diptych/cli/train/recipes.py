"""`diptych recipes`: how encoders and rerankers can be trained."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from diptych.cli.setup.adapters import options_table
from diptych.cli.ui.options import JsonOption
from diptych.cli.ui.output import stdout, table, write_json
from diptych.cli.ui.session import Session
from diptych.specs import RecipeSpec


def recipes(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show the options of this one.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the recipes for `diptych train`, or show the options of one.

    [dim]Examples:[/dim]

      diptych recipes

      diptych recipes contrastive
    """
    session: Session = context.obj
    if name is not None:
        return _show_one(session, session.registry.recipes.get(name), as_json)
    rows = [_row(session, spec) for spec in session.registry.recipes.sorted()]
    if as_json:
        return write_json(rows)
    listing = table("name", "kind", "what it trains", "from")
    listing.columns[0].no_wrap = True
    for row in rows:
        listing.add_row(row["name"], row["kind"], row["summary"], row["source"])
    return stdout().print(listing)


def _row(session: Session, spec: RecipeSpec) -> dict[str, Any]:
    source = session.registry.recipes.source(spec.name)
    return {"name": spec.name, "kind": spec.kind, "summary": spec.summary, "source": source}


def _show_one(session: Session, spec: RecipeSpec, as_json: bool) -> None:
    from diptych.training.recipe_file import options_model

    schema = options_model(spec).model_json_schema()
    if as_json:
        return write_json({**_row(session, spec), "options": schema})
    console = stdout()
    console.print(f"{spec.name} ({spec.kind}): {spec.summary}", style="bold")
    return console.print(options_table(flat_options(schema)))


def flat_options(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    """Every option of a JSON Schema with its dotted name, its facts and whether it is required."""
    return _flat(schema, schema, "")


def _flat(schema: dict[str, Any], root_schema: dict[str, Any], above: str) -> list[tuple[str, dict[str, Any], bool]]:
    """Every option with its dotted name, behind a row for its section where that is off unless given."""
    options: list[tuple[str, dict[str, Any], bool]] = []
    for name, facts in schema.get("properties", {}).items():
        section = _section(facts, root_schema)
        if section is None:
            options.append((f"{above}{name}", facts, name in schema.get("required", [])))
        else:
            if facts.get("default", ...) is None:
                description = f"Off unless given. {facts.get('description', '')}".rstrip()
                options.append((f"{above}{name}", {"type": "section", "description": description}, False))
            options += _flat(section, root_schema, f"{above}{name}.")
    return options


def _section(facts: dict[str, Any], root_schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of a section that an option is, alone or beside null."""
    references = [part["$ref"] for part in (facts, *facts.get("anyOf", ()), *facts.get("allOf", ())) if "$ref" in part]
    section: dict[str, Any] | None = (
        root_schema["$defs"][references[0].rpartition("/")[2]] if len(references) == 1 else None
    )
    return section if section and "properties" in section else None
