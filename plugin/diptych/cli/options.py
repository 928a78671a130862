"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from diptych.errors import ConfigError

CONFIG = Path("diptych.yaml")


def option(
    help: str, *names: str, metavar: str | None = None, min: float | None = None, max: float | None = None
) -> Any:
    """An option of a command; `names` unless the parameter's own says it, or stands for a flag without `--no-`."""
    return typer.Option(*names, metavar=metavar, help=help, min=min, max=max)


ConfigOption: TypeAlias = Annotated[Path, option("The config file.", "--config", "-c", metavar="FILE")]
ConfigsOption: TypeAlias = Annotated[
    list[Path] | None,
    option(
        "The config file; repeat to compare the pipelines of several. [default: diptych.yaml]",
        "--config",
        "-c",
        metavar="FILE",
    ),
]
JsonOption: TypeAlias = Annotated[bool, option("Write one JSON document to standard output.", "--json")]
TenantOption: TypeAlias = Annotated[
    str | None, option("The tenant, in a collection with tenants.", "--tenant", metavar="NAME")
]
StoreOption: TypeAlias = Annotated[
    str | None, option("Open this store instead of reading a config file.", "--store", metavar="URL")
]
CollectionOption: TypeAlias = Annotated[
    str | None, option("The collection, instead of the config's.", "--collection", metavar="NAME")
]
JudgedFolder: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="FOLDER", help="A BEIR folder with queries and qrels.", show_default=False)
]
QueriesOption: TypeAlias = Annotated[
    Path | None, option("queries.jsonl(.gz); by default the config's.", "--queries", metavar="FILE")
]
QrelsOption: TypeAlias = Annotated[
    Path | None, option("Judgements; by default the config's.", "--qrels", metavar="FILE")
]
FilterOption: TypeAlias = Annotated[
    str | None, option("A Qdrant filter over the metadata.", "--filter", metavar="JSON")
]
WhereOption: TypeAlias = Annotated[
    list[str] | None,
    option("Only documents with this metadata; repeat for more.", "--where", metavar="KEY=VALUE"),
]
DenseSlotOption: TypeAlias = Annotated[
    str | None, option("A dense slot; the only one unless given.", "--slot", metavar="NAME")
]
SyntheticOption: TypeAlias = Annotated[
    bool,
    option("Use synthetic queries: words from 200 documents. The default without judgements.", "--synthetic"),
]
WriteOption: TypeAlias = Annotated[
    bool, option("Write what is recommended into the config file; the diff is shown anyway.", "--write")
]
QuietOption: TypeAlias = Annotated[bool, option("Do not log requests.", "--quiet")]


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
