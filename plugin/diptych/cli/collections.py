"""Commands on a collection that is filled: `info`, `delete` and `copy`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.options import (
    CONFIG,
    CollectionOption,
    ConfigOption,
    JsonOption,
    StoreOption,
    TenantOption,
    option,
)
from diptych.cli.output import Bars, show, stderr, stdout, write_json
from diptych.cli.run_command import FAILED, Session
from diptych.cli.search import note_missing_keys, parse_filter
from diptych.config.load import as_written
from diptych.config.problems import redacted
from diptych.display import Display, Table, printable
from diptych.errors import CollectionError, ConfigError
from diptych.runtime import interrupts

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.config import Config
    from diptych.reports import SlotInfo


def info(
    session: Session,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    all: Annotated[bool, option("List all collections of the store.", "--all")] = False,
    ids: Annotated[
        list[str] | None, option("Only this document, as JSON; repeat for more.", "--id", metavar="ID")
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a collection: documents, slots, encoders, fingerprints. Loads no model.

    With --all, or with --store and no --collection, list a store's collections: points, slots, and whether diptych
    knows them. With --id, show documents; exits with 1 if one does not exist.

    [dim]Examples:[/dim]

      diptych info

      diptych info --id postfix --id sox

      diptych info --all

      diptych info --store edge:./qdrant --collection packages --json
    """
    if not ids and (all or (store is not None and collection is None)):
        if collection is not None:
            raise CollectionError("--all lists every collection", got=f"--collection {collection}", do="leave one out")
        return _list(session, config, store, as_json)
    if ids:
        with session.stored(config, store, collection) as opened:
            documents = {document.id: document for document in opened.get(ids, tenant=tenant)}
        for document in documents.values():
            write_json(dataclasses.replace(document, media={name: str(own) for name, own in document.media.items()}))
        return _end_by([identifier for identifier in dict.fromkeys(ids) if identifier not in documents])
    with session.collection(config, store, collection, verify=False) as opened:
        description = opened.info()
    if as_json:
        slots = [{**dataclasses.asdict(slot), "options": redacted(slot.options)} for slot in description.slots]
        return write_json(
            {
                "name": description.name,
                "documents": description.documents,
                "slots": slots,
                "fusion": dict(description.fusion),
                "warnings": description.warnings,
            }
        )
    fusion = ", ".join(f"{key}: {value}" for key, value in description.fusion.items())
    shown = [
        Display(f"{slot.name} ({slot.kind})", [f"  {label:<12}{value}" for label, value in _facts(slot)])
        for slot in description.slots
    ]
    rest = [f"fused by {fusion}"] if fusion else [] if shown else ["not filled yet: diptych populate SOURCE"]
    head = f"{description.name}: {description.documents:,} documents"
    return show(Display(head, [*shown, *rest], description.warnings))


def _facts(slot: SlotInfo) -> Iterator[tuple[str, str]]:
    yield "adapter", slot.adapter
    if slot.of != "text":
        yield "reads", slot.of
    if slot.options:
        yield "options", ", ".join(f"{key}: {as_written(value)}" for key, value in redacted(slot.options).items())
    if slot.statistics:
        yield "corpus", ", ".join(f"{key} {value:,.0f}" for key, value in slot.statistics.items())
    if slot.unread:
        yield "unread", f"{slot.unread} (all documents encoded so far)"
    yield "vector", f"{slot.vector or '(unnamed)'}, generation {slot.generation}"
    yield "fingerprint", slot.fingerprint


def _list(session: Session, config: Path, store: str | None, as_json: bool) -> None:
    """Each collection of a store: points, adapters by slot, whether diptych knows it, or why it cannot be opened."""
    from diptych.metadata.store import read_metadata

    place: str | Config = store or session.config(config)
    configured, rows = "" if isinstance(place, str) else place.collection, list[dict[str, Any]]()
    with closing(session.store(place)) as client:
        for name in sorted(description.name for description in client.get_collections().collections):
            slots, metadata, state = dict[str, str](), None, "not diptych's; take it over: diptych adopt"
            try:
                metadata = read_metadata(client, name)
            except CollectionError as error:
                state = error.what
            if metadata is not None:
                slots = {slot: generation.adapter for slot, generation in metadata.live.slots.items()}
                state = "a swap is under way" if metadata.swap else "ready"
            points, known = client.count(name, exact=True).count, metadata is not None
            rows.append({"name": name, "points": points, "slots": slots, "known": known, "state": state})
    if as_json:
        return write_json({"collections": rows})
    if not rows:
        return stderr().print("the store has no collections; fill one: diptych populate SOURCE")
    listed = []
    for row in rows:
        name = f"{row['name']} *" if row["name"] == configured else str(row["name"])
        made = ", ".join(f"{slot} ({adapter})" for slot, adapter in row["slots"].items()) or "-"
        listed.append((name, f"{row['points']:,}", made, str(row["state"])))
    return show(Display("", [Table(("collection", "points", "slots", "state"), listed)]))


def delete(
    session: Session,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="The documents' ids.")] = None,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    filter: Annotated[str | None, option("Delete the documents that match this Qdrant filter.", metavar="JSON")] = None,
    where: Annotated[
        list[str] | None,
        option("Delete the documents with this metadata; repeat for more.", metavar="KEY=VALUE"),
    ] = None,
    yes: Annotated[bool, option("Do not ask.", "--yes", "-y")] = False,
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
            "no documents are named" if not ids else "ids and a filter do not go together",
            expected="ids, or --where and --filter",
            do="diptych delete ID..., or diptych delete --where KEY=VALUE",
        )
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


SHOWN = 5  # ids that the question of delete names
RESUME = "what was copied stays; run it again to continue"


def copy(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="FROM", help="A store's URL, or a config file.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="A store's URL, or a config file.")],
    collection: Annotated[
        str | None,
        option("The collection to copy, if the store has several.", metavar="NAME"),
    ] = None,
    name: Annotated[str | None, option("The copy's name, if different.", "--as", metavar="NAME")] = None,
    batch: Annotated[int, option("Points to read and write at once.", min=1)] = 256,
    rate: Annotated[float | None, option("Maximum points per second.", metavar="N", min=0.001)] = None,
    overwrite: Annotated[bool, option("Overwrite points that were changed in the copy.", "--overwrite")] = False,
    from_api_key: Annotated[
        str | None, option("API key of the source server, as a variable.", metavar="'${NAME}'")
    ] = None,
    to_api_key: Annotated[
        str | None, option("API key of the target server, as a variable.", metavar="'${NAME}'")
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
    from diptych.copying import copy_collection
    from diptych.slots.consent import place_of

    sides = _side(source, from_api_key, session), _side(target, to_api_key, session)
    if (place := _url(sides[1])).startswith("memory:"):
        what, do = "what is copied into memory is gone when the command ends", "copy to edge:PATH or a server"
        raise ConfigError(what, where=place, do=f"{do}; in Python, copy_collection can")
    with interrupts.resumable(RESUME), ExitStack() as stack, Bars() as bars:
        first = stack.enter_context(closing(session.store(sides[0], key=from_api_key)))
        # An embedded store cannot be opened twice.
        spreads = not isinstance(sides[1], str) and bool(sides[1].cluster.given)
        if _normalized(sides[0]) == _normalized(sides[1]) and not spreads:
            second = first
        else:
            second = stack.enter_context(closing(session.store(sides[1], key=to_api_key, create=True)))
        names = [None if isinstance(side, str) else side.collection for side in sides]
        source_name = collection or names[0]
        if source_name is None:
            found = sorted(description.name for description in first.get_collections().collections)
            if len(found) != 1:
                raise ConfigError(
                    "the store has several collections" if found else "the store has no collection to copy",
                    where=place_of(first),
                    expected=", ".join(found),
                    do="name it: --collection NAME" if found else "fill one first: diptych populate SOURCE",
                )
            source_name = found[0]
        report = copy_collection(
            first,
            source_name,
            second,
            name or names[1] or source_name,
            batch=batch,
            rate=rate,
            overwrite=overwrite,
            progress=bars,
            registry=session.registry,
        )
    if as_json:
        return write_json(dataclasses.asdict(report))
    counted = ("copied", "changed", "deleted")
    counts = ", ".join(f"{n:,} {name}" for name in counted if (n := getattr(report, name))) or "nothing to do"
    passes = f" after {report.passes} passes" if report.passes > 1 else ""
    checked = f"verified{passes}: every point was read on both sides and is the same"
    done = f"{report.points:,} points: {counts} in {report.seconds:.1f} s"
    return show(Display(f"{report.source} -> {report.target}", [done, checked], report.warnings))


def _side(text: str, key: str | None, session: Session) -> str | Config:
    """The store's URL, or the config that names it; a key must be the name of a variable."""
    from diptych.stores import is_store_url

    if key is not None and not key.startswith("${"):
        do = "export it and name the variable, in single quotes: --to-api-key '${QDRANT_API_KEY}'"
        raise ConfigError("a key on the command line can be seen by others", where="--*-api-key", do=do)
    return text if is_store_url(text) else session.config(Path(text))


def _url(side: str | Config) -> str:
    return side if isinstance(side, str) else side.urls[0]


def _normalized(side: str | Config) -> str:
    """The address of a side's store, equal for equal stores."""
    from diptych.runtime.environment import interpolate

    url = interpolate(_url(side), where="the store's URL")
    scheme, _, path = url.partition(":")
    return f"{scheme}:{Path(path).expanduser().resolve()}" if scheme in ("edge", "local") else url.rstrip("/")
