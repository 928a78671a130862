"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from diptych.errors import ConfigError

CONFIG = Path("diptych.yaml")

ConfigOption: TypeAlias = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The config file.", show_default=True)
]
ConfigsOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The config file; repeat to compare the pipelines of several. [default: diptych.yaml]",
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output.")]
TenantOption: TypeAlias = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="The tenant, in a collection with tenants.")
]
StoreOption: TypeAlias = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="Open this store instead of reading a config file.")
]
CollectionOption: TypeAlias = Annotated[
    str | None, typer.Option("--collection", metavar="NAME", help="The collection, instead of the config's.")
]
JudgedFolder: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="FOLDER", help="A BEIR folder with queries and qrels.", show_default=False)
]
QueriesOption: TypeAlias = Annotated[
    Path | None, typer.Option("--queries", metavar="FILE", help="queries.jsonl(.gz); by default the config's.")
]
QrelsOption: TypeAlias = Annotated[
    Path | None, typer.Option("--qrels", metavar="FILE", help="Judgements; by default the config's.")
]
ImageOption: TypeAlias = Annotated[
    Path | None, typer.Option("--image", metavar="FILE", help="A picture to search with, with or without words.")
]
MediaOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--media", metavar="MODALITY=FILE", help="As --image: sound=FILE or video=FILE."),
]
LikeOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--like", metavar="ID", help="Prefer documents like this id, or text:WORDS; repeat for more."),
]
UnlikeOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--unlike", metavar="ID", help="Prefer documents unlike this id, or text:WORDS; repeat for more."),
]
FilterOption: TypeAlias = Annotated[
    str | None, typer.Option("--filter", metavar="JSON", help="A Qdrant filter over the metadata.")
]
WhereOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Only documents with this metadata; repeat for more."),
]
DenseSlotOption: TypeAlias = Annotated[
    str | None, typer.Option("--slot", metavar="NAME", help="A dense slot; the only one unless given.")
]
SyntheticOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--synthetic", help="Use synthetic queries: words from 200 documents. The default without judgements."
    ),
]
WriteOption: TypeAlias = Annotated[
    bool, typer.Option("--write", help="Write what is recommended into the config file; the diff is shown anyway.")
]
NoGateOption: TypeAlias = Annotated[bool, typer.Option("--no-gate", help="Cut over without running the gate.")]
IgnoreGateOption: TypeAlias = Annotated[
    bool, typer.Option("--ignore-gate", help="Run the gate, and cut over whatever it measures.")
]
UnmeasuredOption: TypeAlias = Annotated[
    bool,
    typer.Option("--unmeasured", help="Without judgements: accept changes beyond swap.gate.unmeasured."),
]
QuietOption: TypeAlias = Annotated[bool, typer.Option("--quiet", help="Do not log requests.")]


def pairs_of(given: Iterable[str], flag: str, example: str) -> list[tuple[str, str]]:
    """`KEY=VALUE` of each text as key and value.

    Raises:
        ConfigError: a text has no key or no `=`.
    """
    parts = [text.partition("=") for text in given]
    for key, equals, value in parts:
        if not key or not equals:
            got = repr(key + equals + value)
            raise ConfigError("not KEY=VALUE", where=flag, got=got, expected=f"such as {example}")
    return [(key, value) for key, _, value in parts]
