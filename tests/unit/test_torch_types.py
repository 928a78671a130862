"""No `type: ignore` rests on how one release of torch annotates itself: another release would make it an error."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".mypy_cache"  # what `make types` has read of libraries need not be read again
BARE = ("tests/support", "tests/benchmarks")  # where modules are in no package
IMPORTS_TORCH = re.compile(r"^\s*(import|from) torch\b", re.MULTILINE)
PROBE = "import torch\n\nCOUNT: int = torch.ones(1)  # type: ignore[assignment]\n"
# Options that hold for our modules alone, or what is kept of libraries would not count.
UNTYPED = """
[[tool.mypy.overrides]]
module = ["torch.*"]
follow_imports = "skip"

[[tool.mypy.overrides]]
module = {own}
disallow_subclassing_any = false
disallow_untyped_decorators = false
"""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_type_ignore_is_unused_when_torch_has_no_types(tmp_path: Path) -> None:
    """An ignore that is needed for the types of torch alone is unused without them. The probe shows it."""
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    packages = [
        "diptych",
        "diptych_adapters",
        "diptych_experimental",
        "diptych_training",
        "diptych_edge",
        "diptych_lab",
        "diptych_serve",
        "tests",
    ]
    own = [f"{name}.*" for name in packages] + [name for bare in BARE for name in names_in(ROOT / bare)]
    config, probe = tmp_path / "mypy.toml", tmp_path / "probe.py"
    config.write_text(settings + UNTYPED.format(own=own), "utf-8")
    probe.write_text(PROBE, "utf-8")
    copy_cache(tmp_path / "cache")
    modules = [path for folder in ("plugin", "adapters", "tests") for path in (ROOT / folder).rglob("*.py")]
    concerned = [str(path) for path in modules if IMPORTS_TORCH.search(path.read_text("utf-8"))]
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*command, *concerned, str(probe)], cwd=ROOT, capture_output=True, text=True, check=False)
    unused = [line.partition(": error")[0] for line in done.stdout.splitlines() if "[unused-ignore]" in line]
    assert unused == [f"{probe}:3"], done.stderr


def names_in(folder: Path) -> list[str]:
    return [".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.rglob("*.py")]


def copy_cache(folder: Path) -> None:
    """Copy mypy's cache, which another mypy may be writing."""
    for file in KEPT.rglob("*.db"):
        target = folder / file.relative_to(KEPT)
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file)) as kept, closing(sqlite3.connect(target)) as copy:
            kept.backup(copy)
