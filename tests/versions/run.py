"""Whether an extra works at its lowest and at its newest versions: its tests, in environments of their own.

    python tests/versions/run.py                            every extra below, lowest and newest
    python tests/versions/run.py langchain haystack         these
    python tests/versions/run.py langchain --only lowest

What `make versions` runs. *Lowest* holds each package that the extra names at the floor that pyproject.toml states;
*newest* takes what resolves today. Each environment holds diptych, the extra and what its tests need, and is made once
below `.venv-versions`, from PyPI. Printed are the versions and what pytest says; the exit code is 0 when all pass.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".venv-versions"
TOOLS = ("pytest>=8.3", "pytest-timeout>=2.3", "hypothesis>=6.115")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@dataclass(frozen=True, slots=True)
class Suite:
    """The tests of an extra and what they need beside it."""

    tests: Sequence[str]
    needs: Sequence[str] = field(default_factory=tuple)


SUITES = {
    "langchain": Suite(["tests/integration/langchain"], ["langchain-tests"]),
    "llama-index": Suite(["tests/integration/llama_index"]),
    "haystack": Suite(["tests/integration/haystack"]),
    "sklearn": Suite(["tests/integration/test_sklearn.py"], ["pandas", "polars"]),
    "serve": Suite(["tests/integration/service"], ["openai", "httpx"]),
    "mcp": Suite(["tests/integration/mcp_server"]),
    "otel": Suite(["tests/integration/telemetry"], ["opentelemetry-sdk"]),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every suite passes at every end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help=", ".join(SUITES))
    parser.add_argument("--only", choices=["lowest", "newest"])
    given = parser.parse_args(arguments)
    if unknown := set(given.extras) - set(SUITES):
        parser.error(f"no suite for {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    ends = [given.only] if given.only else ["lowest", "newest"]
    failed = [f"{extra} {end}" for extra in given.extras or SUITES for end in ends if not passes(extra, end)]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall pass")
    return bool(failed)


def passes(extra: str, end: str) -> bool:
    """Whether the extra's tests pass at this end of its versions."""
    suite, python = SUITES[extra], made(extra, end)
    freeze = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    names = {Requirement(text).name.lower() for text in EXTRAS[extra]}
    print(
        f"\n{extra}, {end}: {', '.join(line for line in freeze.splitlines() if line.split('==')[0].lower() in names)}"
    )
    ran = subprocess.run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suite.tests], cwd=ROOT, check=False)
    return ran.returncode == 0


def made(extra: str, end: str) -> str:
    """The Python of the environment, which is made when it is not there."""
    folder = PLACE / f"{extra}-{end}"
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists() or stamp.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        floors = folder / "floors.txt"
        floors.write_text("\n".join(lowest(extra)) if end == "lowest" else "")
        wanted = ["--editable", f"{ROOT}[{extra}]", *TOOLS, *SUITES[extra].needs]
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-c", str(floors), *wanted], check=True)
        stamp.touch()
    return str(python)


def lowest(extra: str) -> list[str]:
    """The extra's own packages, each at its floor."""
    found = []
    for text in EXTRAS[extra]:
        requirement = Requirement(text)
        floor = next((part.version for part in requirement.specifier if part.operator in (">=", "==")), None)
        if requirement.name != "diptych" and floor:
            found.append(f"{requirement.name}=={floor}")
    return found


if __name__ == "__main__":
    sys.exit(main())
