"""`diptych adapter`: creates an adapter package, and runs the conformance kit on an installed adapter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.setup.adapter_files import KINDS, NewAdapter
from diptych.cli.ui.options import JsonOption
from diptych.cli.ui.output import printable, stdout, write_json
from diptych.cli.ui.run_command import FAILED, command, group
from diptych.cli.ui.session import Session
from diptych.errors import RegistryError

if TYPE_CHECKING:
    from diptych.specs import AdapterSpec
    from diptych.testing.checks import Check, Conditions

app = group("adapter", "For adapter authors: create a package, or check an installed adapter.")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The adapter's name in diptych.yaml, such as word-hash.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help=f"The kind of adapter: {', '.join(KINDS)}.")] = "dense",
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The new folder; by default diptych-NAME in the working folder."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a package with an adapter that passes the conformance kit, ready for your model.

    [dim]Examples:[/dim]

      diptych adapter new word-hash

      diptych adapter new my-reranker --kind reranker --folder ../my-reranker
    """
    if not _NAME.fullmatch(name):
        raise RegistryError("not a valid name for an adapter", got=name, expected="lower case letters, digits, hyphens")
    if kind not in KINDS:
        raise RegistryError("there is no template of this kind", got=kind, expected=", ".join(KINDS))
    place = folder or Path(f"diptych-{name}")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise RegistryError("the folder exists", where=place, do="name another one: --folder FOLDER")
    files = NewAdapter(name, kind).files()
    for path, content in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(content, encoding="utf-8")
    if as_json:
        return write_json({"folder": str(place), "files": list(files)})
    console = stdout()
    console.print(f"{place}: {len(files)} files", style="bold", soft_wrap=True)
    console.print(f"next: pip install -e '{place}[test]' && diptych adapter check {name}", soft_wrap=True)
    return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A check and its outcome: "passed", "failed" or "skipped", with the reason."""

    check: str
    outcome: str
    reason: str = ""


def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="An adapter; diptych adapters lists them.")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the adapter; repeat for more.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the conformance kit on an installed adapter. Exits with 1 if a check fails.

    [dim]Examples:[/dim]

      diptych adapter check bm25

      diptych adapter check sentence-transformers --option model=all-MiniLM-L6-v2
    """
    session: Session = context.obj
    spec = session.registry.spec(name)
    adapter: Any = session.registry.create(name, _options(option or []), where=f"adapter {name!r}")
    outcomes = list(_outcomes(spec, adapter))
    failed = sum(outcome.outcome == "failed" for outcome in outcomes)
    if as_json:
        write_json({"adapter": name, "kind": spec.kind, "passed": not failed, "checks": outcomes})
    else:
        _show(name, spec.kind, outcomes)
    if failed:
        raise typer.Exit(FAILED)


def _outcomes(spec: AdapterSpec, adapter: Any) -> Iterator[Outcome]:
    from diptych.protocols import Calibrated
    from diptych.testing.checks import CHECKS, MEDIA_CHECKS, Conditions
    from diptych.testing.conformance import ConformanceFailure

    takes_texts, modalities = "text" in spec.accepts, [modality for modality in spec.accepts if modality != "text"]
    of_media = [Conditions(kind=spec.kind, modality=modality, takes_texts=takes_texts) for modality in modalities]
    conditions = Conditions(kind=spec.kind)
    if isinstance(adapter, Calibrated):
        adapter.calibrate(adapter.measure(conditions.texts))
    pairs = [(check, own) for own in of_media for check in MEDIA_CHECKS]
    for check, conditions in pairs or [(check, conditions) for check in CHECKS[spec.kind]]:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        name = f"{conditions.modality}: {name}" if len(modalities) > 1 else name
        if reason := _skipped(check, adapter, conditions):
            yield Outcome(name, "skipped", reason)
            continue
        try:
            check(adapter, conditions)
        except ConformanceFailure as failure:
            text = f"{failure.what}; got {failure.got}; expected {failure.expected}"
            yield Outcome(name, "failed", text)
        else:
            yield Outcome(name, "passed")


def _skipped(check: Check, adapter: Any, conditions: Conditions) -> str:
    """Why a check does not apply; empty if it does."""
    match check.__name__:
        case "check_sides_as_declared" if conditions.declared(adapter, "asymmetric") is None:
            return "it does not say whether it is `asymmetric`"
        case "check_normalized" if not conditions.declared(adapter, "normalized"):
            return "it does not declare `normalized`"
        case "check_scores_independent" if not adapter.independent:
            return "its scores depend on the other pairs"
        case "check_texts_beside_media" if not conditions.takes_texts:
            return "it takes no texts"
        case "check_known_vectors" | "check_sibling_documents":
            return "for tests of its own: see diptych.testing"
    return ""


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse `--option KEY=VALUE`: numbers, booleans, lists and objects as JSON, everything else as text."""
    options = {}
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise RegistryError("--option is not KEY=VALUE", got=repr(text), expected="such as dimension=256")
        try:
            options[key] = json.loads(value)
        except (ValueError, RecursionError):
            options[key] = value
    return options


def _show(name: str, kind: str, outcomes: Sequence[Outcome]) -> None:
    console = stdout()
    styles = {"passed": "green", "failed": "bold red", "skipped": "dim"}
    for outcome in outcomes:
        reason = f": {printable(outcome.reason)}" if outcome.reason else ""
        console.print(f"{outcome.outcome:<8}{outcome.check}{reason}", style=styles[outcome.outcome], soft_wrap=True)
    counts = {word: sum(outcome.outcome == word for outcome in outcomes) for word in styles}
    totals = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    console.print(f"{name} ({kind}): {totals}", style="bold", soft_wrap=True)


command(app, "new", new)
command(app, "check", check)
