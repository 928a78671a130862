"""`diptych doctor`: is everything there that the config needs?"""

from __future__ import annotations

import textwrap
import warnings
from typing import Annotated

import typer

from diptych.cli.setup.check_result import Check
from diptych.cli.setup.doctor_checks import run_checks
from diptych.cli.ui.options import CONFIG, ConfigOption, JsonOption
from diptych.cli.ui.output import printable, stdout, write_json
from diptych.cli.ui.run_command import FAILED
from diptych.cli.ui.session import Session
from diptych.errors import InsecureKeyWarning

INDENT = " " * 5
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    models: Annotated[bool, typer.Option(help="Load each model; the slowest check.")] = True,
    download: Annotated[bool, typer.Option("--download", help="Download missing models.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every point, and compare some re-encoded documents.")
    ] = False,
    sample: Annotated[int, typer.Option(help="Documents that --verify re-encodes; 0 for all.", min=0)] = 64,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Rebuild a damaged embedded collection, and repair what --verify finds."),
    ] = False,
    accept_data: Annotated[
        bool,
        typer.Option(
            "--accept-data", help="Keep a sample of today's vectors, and warn when later documents differ from them."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check versions, config, environment, extras, store, collection and models, with advice for each problem.

    Exits with 1 if a check failed; warnings alone exit with 0.

    [dim]Examples:[/dim]

      diptych doctor

      diptych doctor --no-models --json

      diptych doctor --verify --sample 0

      diptych doctor --accept-data
    """
    session: Session = context.obj
    checks = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyWarning)  # a check says it
        for check in run_checks(
            config,
            session,
            models=models,
            download=download,
            verify=verify,
            sample=sample or None,
            repair=repair,
            accept=accept_data,
        ):
            checks.append(check)
            if not as_json:
                _show(check)
    passed = all(check.status != "fail" for check in checks)
    if as_json:
        write_json({"passed": passed, "checks": checks})
    if not passed:
        raise typer.Exit(FAILED)


def _show(check: Check) -> None:
    console = stdout()
    console.print(f"{check.status:<5}", style=STYLES[check.status], end="")
    width = console.width if console.is_terminal else None
    console.print(_indented(f"{check.name}: {printable(check.found)}", width).lstrip(), soft_wrap=True)
    for line in check.do.splitlines():
        console.print(_indented(printable(line), width), style="dim", soft_wrap=True)


def _indented(text: str, width: int | None) -> str:
    """The text behind the column of the statuses, broken between words alone; unbroken without a width."""
    if width is None:
        return f"{INDENT}{text}"
    return textwrap.fill(
        text, width, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
    )
