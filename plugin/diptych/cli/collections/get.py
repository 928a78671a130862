"""`diptych get`: shows documents by id."""

from __future__ import annotations

import json
from typing import Annotated

import typer

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
    if missing:
        stderr().print(printable(f"not there: {', '.join(missing)}"), style="yellow", soft_wrap=True)
        raise typer.Exit(FAILED)
