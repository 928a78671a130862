"""Measures the effects of methods and writes them down.

    python tests/benchmarks/run_effects.py                    all
    python tests/benchmarks/run_effects.py --only ar2,cprd    these scripts of tests/benchmarks/effects, measured anew
    python tests/benchmarks/run_effects.py --render           only the tables again

Results are kept in docs/research/methods/effects.json, and tables stand on the pages of docs/research/methods. One core
is used, whatever there is, so that sums are added in the same order everywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from effects.running import Effect
from effects.table import line, write_into
from machine import facts

HERE, METHODS = Path(__file__).parent, Path(__file__).parents[3] / "docs" / "research" / "methods"
HARNESS = {"deb", "lex", "mat", "run", "running", "scoring", "served", "table", "teacher", "tiny", "vec", "world"}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all that was asked for is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"scripts with commas, of {', '.join(scripts())}")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = [] if options.render else chosen(options.only)
    failed = [name for name in names if not measured(name, METHODS / "effects.json")]
    write_into(METHODS, read(METHODS / "effects.json"))
    return 1 if failed else 0


def scripts() -> list[str]:
    """The names of all scripts, by their files."""
    return sorted({file.stem for file in HERE.glob("*.py")} - HARNESS)


def chosen(only: str) -> list[str]:
    """The scripts to run.

    Raises:
        SystemExit: naming one that is not there.
    """
    asked = [name for name in only.split(",") if name]
    if unknown := [name for name in asked if name not in scripts()]:
        raise SystemExit(f"no script {unknown[0]!r}; there are {', '.join(scripts())}")
    return asked or scripts()


def measured(name: str, kept: Path) -> bool:
    """Whether the script gave effects, which are then kept with those of the others."""
    run: Callable[[], list[Effect]] = import_module(f"effects.{name}").effects
    print(f"== {name}", flush=True)
    begin = time.monotonic()
    try:
        found = run()
    except FileNotFoundError as error:
        print(f"== {name}: NOT MEASURED, {error}", flush=True)
        return False
    for one in found:
        print(line(one), flush=True)
    seconds = time.monotonic() - begin
    keep(kept, name, found, seconds)
    print(f"== {name}: done in {seconds:.0f} s", flush=True)
    return True


def keep(kept: Path, name: str, found: Sequence[Effect], seconds: float) -> None:
    """The effects of a script among the others, with when and where they were measured."""
    machine = {key: value for key, value in facts().items() if key in ("cpu", "python")}
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    own = {"effects": [one.to_data() for one in found], "date": when, "seconds": round(seconds), "machine": machine}
    own["script"] = blob(HERE / f"{name}.py")
    all_ = {**read(kept), name: own}
    kept.write_text(json.dumps(dict(sorted(all_.items())), indent=1) + "\n", encoding="utf-8")


def blob(path: Path) -> str:
    """What git calls the content of a file: `git log --find-object=NAME` finds the commits that brought and changed it.

    Unlike a commit's name it stays the same when a branch is rebased.
    """
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()


def read(kept: Path) -> Mapping[str, Any]:
    """All effects by script."""
    found: Mapping[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    return found
