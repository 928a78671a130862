"""`diptych copy`: a collection from one store to another. `diptych export`, `diptych import`: to and from a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
from diptych.errors import ConfigError, CopyError
from diptych.runtime import interrupts

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.config.placement import ClusterConfig
    from diptych.copying import CopyReport, ImportReport


RESUME = "what was copied stays; run it again to continue"


def copy(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="A store's URL, or a config file.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="A store's URL, or a config file.")],
    collection: Annotated[
        str | None,
        typer.Option("--collection", metavar="NAME", help="The collection to copy, if the store has several."),
    ] = None,
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="The copy's name, if different.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Points to read and write at once.")] = 256,
    rate: Annotated[float | None, typer.Option(metavar="N", min=0.001, help="Maximum points per second.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Read both sides again and compare all contents.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Overwrite points that were changed in the copy.")
    ] = False,
    from_api_key: Annotated[
        str | None, typer.Option(metavar="'${NAME}'", help="API key of the source server, as a variable.")
    ] = None,
    to_api_key: Annotated[
        str | None, typer.Option(metavar="'${NAME}'", help="API key of the target server, as a variable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a collection to another store or name, with vectors, payloads, indexes, settings and encoders.

    Run it again to continue after an interruption, or to transfer what has changed since.

    [dim]Examples:[/dim]

      diptych copy edge:./qdrant http://localhost:6333

      diptych copy edge:./qdrant edge:./qdrant --collection packages --as packages.2

      diptych copy diptych.yaml https://qdrant.example.org --to-api-key '${QDRANT_API_KEY}'
    """
    session: Session = context.obj
    ends = _End.of(source, from_api_key, session), _End.of(target, to_api_key, session)
    _require_lasting(ends[1])
    with interrupts.resumable(RESUME), _opened(ends, session) as clients, Bars() as bars:
        from diptych.copying import copy_collection

        source_name = collection or ends[0].collection or _only(clients[0])
        report = copy_collection(
            clients[0],
            source_name,
            clients[1],
            name or ends[1].collection or source_name,
            batch=batch,
            rate=rate,
            verify=verify,
            overwrite=overwrite,
            progress=bars,
            registry=session.registry,
        )
    write_json(dataclasses.asdict(report)) if as_json else _show(report)


@dataclass(frozen=True, slots=True)
class _End:
    """A side as the command line names it: its store, the reference to its key, and a config's collection."""

    urls: tuple[str, ...]
    key: str | None = None
    collection: str | None = None
    timeout: int = 60
    cluster: ClusterConfig | None = None

    @classmethod
    def of(cls, text: str, key: str | None, session: Session) -> _End:
        from diptych.stores import is_store_url

        if key is not None and not key.startswith("${"):
            do = "export it and name the variable, in single quotes: --to-api-key '${QDRANT_API_KEY}'"
            raise ConfigError("a key on the command line can be seen by others", where="--*-api-key", do=do)
        if is_store_url(text):
            return cls((text,), key)
        config = session.config(Path(text))
        config_key = config.api_key.get_secret_value() if config.api_key else None
        return cls(config.urls, key or config_key, config.collection, config.timeout, config.cluster)

    def open(self, session: Session, *, create: bool) -> QdrantBase:
        from diptych.runtime.environment import interpolate
        from diptych.stores import open_store

        key = interpolate(self.key, where="api_key") if self.key else None
        return open_store(
            self.urls,
            api_key=key,
            timeout=self.timeout,
            registry=session.registry,
            create=create,
            cluster=self.cluster,
        )

    @property
    def spreads(self) -> bool:
        """Whether it says how collections are spread over a cluster."""
        return self.cluster is not None and bool(self.cluster.given)


@contextmanager
def _opened(ends: tuple[_End, _End], session: Session) -> Iterator[tuple[QdrantBase, QdrantBase]]:
    """Both stores, opened once if they are the same: an embedded store cannot be opened twice."""
    with ExitStack() as stack:
        clients: list[QdrantBase] = []
        for end in ends:
            if clients and _same(*ends) and not end.spreads:
                clients.append(clients[0])
                continue
            clients.append(end.open(session, create=bool(clients)))
            stack.callback(clients[-1].close)
        yield clients[0], clients[1]


def _require_lasting(target: _End) -> None:
    if target.urls[0].startswith("memory:"):
        what = "what is copied into memory is gone when the command ends"
        raise ConfigError(
            what, where=target.urls[0], do="copy to edge:PATH or a server; in Python, copy_collection can"
        )


def _same(source: _End, target: _End) -> bool:
    from diptych.runtime.environment import interpolate

    first, second = interpolate(source.urls[0], where="FROM"), interpolate(target.urls[0], where="TO")
    return _normalized(first) == _normalized(second)


def _normalized(url: str) -> str:
    scheme, _, path = url.partition(":")
    return f"{scheme}:{Path(path).expanduser().resolve()}" if scheme in ("edge", "local") else url.rstrip("/")


def _only(client: QdrantBase) -> str:
    from diptych.slots.consent import place_of

    names = sorted(description.name for description in client.get_collections().collections)
    if len(names) == 1:
        return names[0]
    raise ConfigError(
        "which collection is to be copied?" if names else "there is no collection to copy",
        where=place_of(client),
        expected=", ".join(names),
        do="name it: --collection NAME" if names else "fill one first: diptych populate SOURCE",
    )


def _show(report: CopyReport) -> None:
    console = stdout()
    console.print(f"{report.source} -> {report.target}", style="bold", soft_wrap=True)
    console.print(f"{report.points:,} points: {_counts(report)} in {report.seconds:.1f} s", soft_wrap=True)
    console.print(_checked(report))
    warn(report.warnings)


def _counts(report: CopyReport) -> str:
    names = ("copied", "changed", "deleted")
    return ", ".join(f"{n:,} {name}" for name in names if (n := getattr(report, name))) or "nothing to do"


def _checked(report: CopyReport) -> str:
    if not report.verified:
        return "not verified: only the numbers of points were compared"
    passes = f" after {report.passes} passes" if report.passes > 1 else ""
    return f"verified{passes}: every point was read on both sides and is the same"


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
