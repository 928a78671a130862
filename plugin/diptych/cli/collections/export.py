"""`diptych export`: writes a collection to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.search.filters import parse_filter
from diptych.cli.ui.options import (
    CONFIG,
    CollectionOption,
    ConfigOption,
    JsonOption,
    StoreOption,
    TenantOption,
)
from diptych.cli.ui.output import stderr, stdout, write_json
from diptych.cli.ui.progress import Bars
from diptych.cli.ui.session import Session
from diptych.errors import CopyError


def export(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="*.jsonl, *.jsonl.gz or *.parquet; - is standard output.")
    ],
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Points with vectors and settings, to import without encoding.")
    ] = False,
    filter: Annotated[str | None, typer.Option(metavar="JSON", help="A Qdrant filter over the metadata.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only documents with this metadata; repeat for more.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a collection to a file: documents for populate, or with --vectors the complete collection.

    [dim]Examples:[/dim]

      diptych export notes.jsonl.gz

      diptych export notes.parquet --where section=mail

      diptych export notes.jsonl.gz --vectors --store edge:./qdrant --collection notes
    """
    from diptych.copying import export_collection

    path = None if file == "-" else Path(file)
    if path is not None and path.exists() and not force:
        raise CopyError("the file exists", where=file, do="name another one, or replace it: --force")
    if path is None and as_json:
        raise CopyError("--json and the export both write to standard output", do="leave --json out, or name a file")
    condition = parse_filter(filter, where or [])
    session: Session = context.obj
    with session.stored(config, store, collection) as opened, Bars() as bars:
        number = export_collection(opened.handle, path, vectors=vectors, filter=condition, tenant=tenant, progress=bars)
        name = opened.name
    if as_json:
        return write_json({"collection": name, "file": file, "vectors": vectors, "exported": number})
    console = stderr() if path is None else stdout()
    console.print(f"{name}: {number:,} {'points with vectors' if vectors else 'documents'} in {file}", soft_wrap=True)
    return None
