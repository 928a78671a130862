"""`diptych export` and `diptych import`: a collection as a file, and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.collections.populate import show_report
from diptych.cli.search.filters import parse_filter
from diptych.cli.ui.options import (
    CONFIG,
    CollectionOption,
    ConfigOption,
    FilterOption,
    JsonOption,
    StoreOption,
    TenantOption,
    WhereOption,
)
from diptych.cli.ui.output import printable, stderr, stdout, warn, write_json
from diptych.cli.ui.progress import Bars
from diptych.cli.ui.run_command import REJECTED
from diptych.cli.ui.session import Session, opened_store
from diptych.errors import CopyError

if TYPE_CHECKING:
    from diptych.copying import ImportReport


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
    filter: FilterOption = None,
    where: WhereOption = None,
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


def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file written by diptych export.")],
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File for rejected lines, with the reasons.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import an exported file: with vectors it restores the collection, without it populates the documents.

    With vectors nothing is encoded, and the collection must not exist yet. Lines that cannot be read are rejected with
    the reason; the command then exits with 3.

    [dim]Examples:[/dim]

      diptych import notes.jsonl.gz

      diptych import notes.parquet --store http://localhost:6333 --collection notes.2
    """
    from diptych.copying.restore import read_header

    header = read_header(file)
    session: Session = context.obj
    if header is None or not header.vectors:
        return _populate(session, file, config, store, collection, report, as_json)
    from diptych.copying import import_collection

    with opened_store(session, config, store, create=True) as (client, configured), Bars() as bars:
        result = import_collection(client, file, collection or configured, report_path=report, progress=bars)
    if as_json:
        write_json({**dataclasses.asdict(result), "complete": result.complete})
    else:
        _show_restored(result)
    if not result.complete:
        raise typer.Exit(REJECTED)
    return None


def _populate(
    session: Session,
    file: Path,
    config: Path,
    store: str | None,
    collection: str | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Populate the documents of a file without vectors."""
    from diptych.populate import open_source
    from diptych.populate import populate as bring_in

    documents = open_source(file)
    with session.collection(config, store, collection, create=True) as opened, Bars() as bars:
        result = bring_in(opened.handle, documents, progress=bars, report_path=report)
    show_report(result, as_json=as_json)


def _show_restored(report: ImportReport) -> None:
    seconds = f"{report.seconds:.1f} s"
    stdout().print(f"{report.collection}: {report.written:,} points in {seconds}", style="bold", soft_wrap=True)
    console = stderr()
    warn(report.warnings)
    if not report.complete:
        console.print(f"{report.set_aside:,} rejected, with reasons in {report.report_file}", style="yellow")
        for point in report.examples[:5]:
            console.print(printable(f"  {point.id}: {point.reason}", limit=200), soft_wrap=True)
