"""No `type: ignore` rests on how one release of torch annotates itself: another release would make it an error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORTS_TORCH = re.compile(r"^\s*(import|from) torch\b", re.MULTILINE)
PROBE = "import torch\n\nCOUNT: int = torch.ones(1)  # type: ignore[assignment]\n"
STRICT = "strict = true\n"
UNTYPED = """
[[tool.mypy.overrides]]
module = ["torch.*"]
follow_imports = "skip"
"""


@pytest.mark.slow(first=True)
@pytest.mark.timeout(900)
def test_no_type_ignore_is_unused_when_torch_has_no_types(tmp_path: Path) -> None:
    """An ignore that is needed for the types of torch alone is unused without them. The probe shows it."""
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    assert STRICT in settings
    lax = f"{STRICT}disallow_subclassing_any = false\ndisallow_untyped_decorators = false\n"
    config, probe = tmp_path / "mypy.toml", tmp_path / "probe.py"
    config.write_text(settings.replace(STRICT, lax) + UNTYPED, "utf-8")
    probe.write_text(PROBE, "utf-8")
    modules = [path for folder in ("plugin", "adapters", "tests") for path in (ROOT / folder).rglob("*.py")]
    concerned = [str(path) for path in modules if IMPORTS_TORCH.search(path.read_text("utf-8"))]
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*command, *concerned, str(probe)], cwd=ROOT, capture_output=True, text=True, check=False)
    unused = [line.partition(": error")[0] for line in done.stdout.splitlines() if "[unused-ignore]" in line]
    assert unused == [f"{probe}:3"], done.stderr
