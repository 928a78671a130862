"""`diptych adopt`: a collection that another framework filled becomes one that diptych knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.ui.options import CONFIG, CollectionOption, JsonOption
from diptych.cli.ui.output import printable, stdout, warn, write_json
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.adopt import AdoptReport
    from diptych.config import Config

SAMPLE = 64  # as diptych.adopt has it, which is slow to import


def adopt(
    context: typer.Context,
    config: Annotated[
        Path,
        typer.Option("--config", "-c", metavar="FILE", help="The config with the encoders that filled the collection."),
    ] = CONFIG,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="The store, instead of the config's.")
    ] = None,
    collection: CollectionOption = None,
    slot: Annotated[
        list[str] | None,
        typer.Option(
            "--slot", metavar="NAME=VECTOR", help="A slot's vector; NAME= is the unnamed one; repeat for more."
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(metavar="FRAMEWORK", help="The framework that wrote the payloads; by default detected."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="KEY", help="Payload key of the text; dots for nested keys.")
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="KEY", help="Payload key of the title.")] = None,
    id: Annotated[str | None, typer.Option("--id", metavar="KEY", help="Payload key of the document's id.")] = None,
    metadata: Annotated[str | None, typer.Option(metavar="KEY", help="Payload key that holds the metadata.")] = None,
    media: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=MODALITY",
            help="Payload key that holds paths or URLs of media: photo=image; also sound, video, series or points.",
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, metavar="N", help="Points to encode again to verify the encoders.")
    ] = SAMPLE,
    again: Annotated[
        bool, typer.Option("--again", help="Redo a wrong adoption, if the collection has not been swapped since.")
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

    session: Session = context.obj
    loaded = session.config(config)
    keys = stated_layout(layout, text=text, title=title, id=id, metadata=metadata)
    with _opened(store, loaded, session) as client:
        report = adopted(
            client,
            collection or loaded.collection,
            loaded,
            vectors=dict(_pairs(slot or (), "--slot", "NAME=VECTOR, such as dense=text-dense")),
            layout=keys,
            sample=sample,
            registry=session.registry,
            media=dict(_pairs(media or (), "--media", "KEY=MODALITY, such as photo=image")),
            again=again,
        )
    if as_json:
        return write_json({**dataclasses.asdict(report), "layout": report.layout.model_dump()})
    return _show(report)


@contextmanager
def _opened(store: str | None, config: Config, session: Session) -> Iterator[QdrantBase]:
    """The store; the config's key is for the config's own store."""
    from diptych.runtime.environment import interpolate
    from diptych.stores import open_store

    key = interpolate(config.api_key.get_secret_value(), where="api_key") if config.api_key and not store else None
    client = open_store(
        store or config.urls, api_key=key, timeout=config.timeout, registry=session.registry, create=False
    )
    try:
        yield client
    finally:
        client.close()


def _pairs(options: Sequence[str], flag: str, expected: str) -> Iterator[tuple[str, str]]:
    for pair in options:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise ConfigError(f"{flag} is not usable", got=repr(pair), expected=expected)
        yield name, value


def _show(report: AdoptReport) -> None:
    console = stdout()
    console.print(f"{report.collection}: {report.points:,} points, adopted", style="bold", soft_wrap=True)
    console.print(f"layout: {report.layout.origin}, text in {report.layout.text!r}", soft_wrap=True)
    for modality, count in report.media.items():
        console.print(f"{modality}: references to the media of {count:,} points were stored", soft_wrap=True)
    for slot in report.slots:
        vector = repr(slot.vector) if slot.vector else "the unnamed vector"
        likeness = f"cosine over {slot.sampled} sampled points: median {slot.median:.4f}, lowest {slot.lowest:.4f}"
        console.print(printable(f"{slot.name}: {vector}, made by {slot.adapter} ({likeness})"), soft_wrap=True)
    warn(report.warnings)
    written = "only metadata was written" if not report.media else "metadata and references to media were written"
    console.print(f"{written}; to change an encoder, edit the config and run: diptych plan", soft_wrap=True)
