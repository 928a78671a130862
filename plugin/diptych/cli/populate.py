"""`diptych populate`: documents into the collection. `diptych adopt`: a collection that another framework filled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from diptych.cli.options import CONFIG, CollectionOption, ConfigOption, JsonOption, TenantOption, option, pairs_of
from diptych.cli.output import Bars, show, write_json
from diptych.cli.run_command import REJECTED, Session
from diptych.cli.status import RETIRED
from diptych.display import Display
from diptych.runtime import interrupts

if TYPE_CHECKING:
    from diptych.populate import Source
    from diptych.reports import PopulateReport


RESUME = "what was written stays; run it again to continue"


def populate(
    session: Session,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders, or - for standard input.")],
    config: ConfigOption = CONFIG,
    format: Annotated[
        str | None,
        option(
            "jsonl, csv, parquet, beir or files; by default from the name. Or image, sound or video: "
            "the files of that modality.",
            metavar="FORMAT",
        ),
    ] = None,
    id_column: Annotated[str | None, option("The column, or JSON key, of the id.", metavar="NAME")] = None,
    text_column: Annotated[str | None, option("The column, or JSON key, of the text.", metavar="NAME")] = None,
    title_column: Annotated[str | None, option("The column, or JSON key, of the title.", metavar="NAME")] = None,
    types: Annotated[
        list[str] | None,
        option(
            "csv: text, integer, float or bool; separate columns by commas; *=text for all columns.",
            metavar="COLUMN=TYPE",
        ),
    ] = None,
    media: Annotated[
        list[str] | None,
        option(
            "The column, or JSON key, of media: picture=image; also sound or video.",
            metavar="COLUMN=MODALITY",
        ),
    ] = None,
    sync: Annotated[bool, option("Also delete documents that are no longer in the sources.", "--sync")] = False,
    yes: Annotated[bool, option("Let --sync delete any number, ignoring populate.max_deleted.", "--yes", "-y")] = False,
    drop_media: Annotated[
        bool, option("Let documents lose pictures and other media that slots read.", "--drop-media")
    ] = False,
    dry_run: Annotated[
        bool, option("Only count new, changed and deleted documents; encode and write nothing.", "--dry-run")
    ] = False,
    report: Annotated[Path | None, option("File for rejected documents, with the reasons.", metavar="FILE")] = None,
    engine: Annotated[
        Literal["threads", "ray"],
        option("Where to encode: threads of this process, or ray.", metavar="ENGINE"),
    ] = "threads",
    workers: Annotated[int, option("ray: how many workers.", metavar="N", min=1)] = 2,
    worker_gpus: Annotated[float, option("ray: GPUs for each worker.", metavar="N", min=0)] = 0,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add documents to the collection: new and changed ones are encoded, unchanged ones skipped.

    After a crash, run it again to continue. Exits with 3 if documents were rejected.

    --sync deletes nothing and exits with 1 if it would delete more than populate.max_deleted (20%) of the collection.

    [dim]Examples:[/dim]

      diptych populate corpus.jsonl.gz

      diptych populate articles.csv --id-column doi --text-column abstract --types year=integer,zip=text

      diptych populate parts.csv --media photo=image

      diptych populate photos/ --format image

      diptych populate notes/ --sync --dry-run

      zcat dump.jsonl.gz | diptych populate -

      diptych populate corpus.jsonl.gz --engine ray --workers 8 --worker-gpus 1
    """
    from diptych.populate import open_source
    from diptych.populate import populate as bring_in
    from diptych.stores.retired_vectors import drop_retired

    chosen = None
    if engine == "ray":
        from diptych.populate.ray_engine import RayEngine

        chosen = RayEngine(workers=workers, gpus=worker_gpus)
    columns = {"id_column": id_column, "text_column": text_column, "title_column": title_column}
    kinds = dict(pairs_of(_listed(types), "--types", "year=integer,zip=text"))
    media_columns = dict(pairs_of(_listed(media), "--media", "picture=image"))
    opened = [open_source(path, format=format, types=kinds, media=media_columns, **columns) for path in sources]
    resume_hint = nullcontext() if dry_run else interrupts.resumable(RESUME)
    opening = session.collection_or_empty(config)[0] if dry_run else session.collection(config, None, None, create=True)
    with resume_hint, opening as collection, Bars() as bars:
        result = bring_in(  # not by the collection, which would log what is printed below
            collection.handle,
            together(opened),
            sync=sync,
            dry_run=dry_run,
            max_deleted=1 if yes else None,
            drop_media=drop_media,
            progress=bars,
            report_path=report,
            engine=chosen,
            tenant=tenant,
        )
        if not dry_run and collection.handle.exists:
            # Vectors that populate itself could not drop: of a cluster, whose shards may move.
            with interrupts.resumable(RETIRED):
                failures = drop_retired(collection.client, collection.name, collection.handle.read, watch=True)
            result = dataclasses.replace(result, warnings=(*result.warnings, *failures))
    show_report(result, as_json=as_json)


def show_report(report: PopulateReport, *, as_json: bool) -> None:
    """Say what a populate did, and leave with 3 when documents were rejected."""
    if as_json:
        write_json({**dataclasses.asdict(report), "complete": report.complete})
    else:
        show(report.display())
    if not report.complete:
        raise typer.Exit(REJECTED)


def _listed(arguments: Sequence[str] | None) -> list[str]:
    """The parts between commas of all arguments."""
    return [part.strip() for text in arguments or () for part in text.split(",")]


def together(sources: Sequence[Source]) -> Iterable[Any]:
    """One source as it is; several as one, which can be read again unless one of them cannot."""
    if len(sources) == 1:
        return sources[0]
    if any(isinstance(source, Iterator) for source in sources):
        return chain.from_iterable(sources)
    return Together(sources)


class Together:
    """Several sources, one after the other, as often as they are iterated."""

    def __init__(self, sources: Sequence[Any]) -> None:
        self.sources = sources

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self.sources)

    def __len__(self) -> int:
        return sum(map(len, self.sources))  # a TypeError if one of them does not know


SAMPLE = 64  # as diptych.adopt has it, which is slow to import


def adopt(
    session: Session,
    config: Annotated[
        Path,
        option("The config with the encoders that filled the collection.", "--config", "-c", metavar="FILE"),
    ] = CONFIG,
    store: Annotated[str | None, option("The store, instead of the config's.", metavar="URL")] = None,
    collection: CollectionOption = None,
    slot: Annotated[
        list[str] | None,
        option("A slot's vector; NAME= is the unnamed one; repeat for more.", metavar="NAME=VECTOR"),
    ] = None,
    layout: Annotated[
        str | None,
        option("The framework that wrote the payloads; by default detected.", metavar="FRAMEWORK"),
    ] = None,
    text: Annotated[str | None, option("Payload key of the text; dots for nested keys.", metavar="KEY")] = None,
    title: Annotated[str | None, option("Payload key of the title.", metavar="KEY")] = None,
    id: Annotated[str | None, option("Payload key of the document's id.", metavar="KEY")] = None,
    metadata: Annotated[str | None, option("Payload key that holds the metadata.", metavar="KEY")] = None,
    media: Annotated[
        list[str] | None,
        option(
            "Payload key that holds paths or URLs of media: photo=image; also sound or video.",
            metavar="KEY=MODALITY",
        ),
    ] = None,
    sample: Annotated[int, option("Points to encode again to verify the encoders.", metavar="N", min=1)] = SAMPLE,
    again: Annotated[
        bool, option("Redo a wrong adoption, if the collection has not been swapped since.", "--again")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Adopt a collection of LangChain, LlamaIndex, Haystack, FastEmbed or your own after verifying its encoders.

    Writes only the collection's metadata and, with --media, references to media. The program that filled the collection
    can continue to use it.

    [dim]Examples:[/dim]

      diptych adopt

      diptych adopt --store http://localhost:6333 --collection my-langchain-docs

      diptych adopt --slot dense=text-dense --slot lexical=text-sparse-new --layout llama-index

      diptych adopt --media photo=image
    """
    from diptych.adopt import adopt as adopted
    from diptych.adopt import stated_layout

    loaded = session.config(config)
    keys = stated_layout(layout, text=text, title=title, id=id, metadata=metadata)
    with closing(session.store(store or loaded)) as client:
        report = adopted(
            client,
            collection or loaded.collection,
            loaded,
            vectors=dict(pairs_of(slot or (), "--slot", "dense=text-dense")),
            layout=keys,
            sample=sample,
            registry=session.registry,
            media=dict(pairs_of(media or (), "--media", "photo=image")),
            again=again,
        )
    if as_json:
        return write_json({**dataclasses.asdict(report), "layout": report.layout.model_dump()})
    parts = [f"layout: {report.layout.origin}, text in {report.layout.text!r}"]
    parts += [f"{key}: references to the media of {count:,} points were stored" for key, count in report.media.items()]
    for own in report.slots:
        vector = repr(own.vector) if own.vector else "the unnamed vector"
        likeness = f"cosine over {own.sampled} sampled points: median {own.median:.4f}, lowest {own.lowest:.4f}"
        parts.append(f"{own.name}: {vector}, made by {own.adapter} ({likeness})")
    written = "only metadata was written" if not report.media else "metadata and references to media were written"
    parts.append(f"{written}; to change an encoder, edit the config and run: diptych plan")
    return show(Display(f"{report.collection}: {report.points:,} points, adopted", parts, report.warnings))
