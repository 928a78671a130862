"""`diptych get` and `diptych delete`: documents by id, and by metadata."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.search.filters import note_missing_keys, parse_filter
from diptych.cli.search.show_hits import document_fields, media_of
from diptych.cli.ui.options import (
    CONFIG,
    CollectionOption,
    ConfigOption,
    JsonOption,
    StoreOption,
    TenantOption,
)
from diptych.cli.ui.output import printable, stderr, stdout, write_json
from diptych.cli.ui.run_command import FAILED
from diptych.cli.ui.session import Session
from diptych.errors import CollectionError

if TYPE_CHECKING:
    from diptych.collection.collection import Collection

SHOWN = 5  # ids that the question names


def get(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The documents' ids.")],
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show documents by id. Loads no model. Exits with 1 if one of them does not exist.

    [dim]Examples:[/dim]

      diptych get postfix sox

      diptych get postfix --json
    """
    session: Session = context.obj
    with session.stored(config, store, collection) as opened:
        documents = opened.get(ids, tenant=tenant)
    missing = [
        identifier for identifier in dict.fromkeys(ids) if identifier not in {document.id for document in documents}
    ]
    if as_json:
        write_json({"documents": [document_fields(document) for document in documents], "missing": missing})
    else:
        console = stdout()
        for document in documents:
            console.print(printable(document.id), style="bold cyan", soft_wrap=True)
            for label, value in (("title", document.title), ("text", document.text)):
                if value:
                    console.print(f"  {label}: {printable(value)}", soft_wrap=True)
            for _, media in media_of(document):
                console.print(printable(f"  {media}, {media.bytes:,} bytes"), soft_wrap=True)
            for key, value in document.metadata.items():
                console.print(printable(f"  {key}: {json.dumps(value, ensure_ascii=False)}"), soft_wrap=True)
    _end_by(missing)


def delete(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="The documents' ids.")] = None,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    filter: Annotated[
        str | None, typer.Option(metavar="JSON", help="Delete the documents that match this Qdrant filter.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Delete the documents with this metadata; repeat for more."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete documents by id, or those that match a filter. Asks for confirmation; loads no model.

    Exits with 1 if an id does not exist; the others are deleted.

    [dim]Examples:[/dim]

      diptych delete postfix sox

      diptych delete --where section=games --yes
    """
    condition = parse_filter(filter, where or [])
    if bool(ids) == (condition is not None):
        raise CollectionError(
            "which documents?" if not ids else "ids and a filter do not go together",
            expected="ids, or --where and --filter",
            do="diptych delete ID..., or diptych delete --where KEY=VALUE",
        )
    session: Session = context.obj
    with session.stored(config, store, collection) as opened:
        if condition is None:
            matching = [document.id for document in opened.get(ids or [], tenant=tenant)]
        else:
            matching = [document.id for document in opened.documents(condition, tenant=tenant)]
        if not matching and condition is not None:
            note_missing_keys(opened, condition, tenant)
        _ask(opened, matching, yes=yes)
        deleted = opened.delete(matching, tenant=tenant) if matching else 0
    missing = [identifier for identifier in dict.fromkeys(ids or []) if identifier not in set(matching)]
    if as_json:
        write_json({"collection": opened.name, "deleted": deleted, "missing": missing})
    else:
        stdout().print(f"{opened.name}: {deleted:,} deleted", style="bold")
    _end_by(missing)


def _end_by(missing: list[str]) -> None:
    """Exit with 1 where ids do not exist, and name them."""
    if missing:
        stderr().print(printable(f"not there: {', '.join(missing)}"), style="yellow", soft_wrap=True)
        raise typer.Exit(FAILED)


def _ask(collection: Collection, ids: list[str], *, yes: bool) -> None:
    """Ask the user to confirm, unless --yes was given.

    Raises:
        CollectionError: there is no terminal to ask at.
    """
    if yes or not ids:
        return
    examples = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
    question = printable(f"delete {len(ids):,} of {collection.count():,} documents of {collection.name}: {examples}")
    if not sys.stdin.isatty():
        raise CollectionError(
            "nothing was deleted: there is no terminal to ask at", got=question, do="run it with --yes"
        )
    typer.confirm(question, abort=True, err=True)
