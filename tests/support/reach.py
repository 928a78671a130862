"""`pytest --reach`: the tests of the core and of the embedded store, and those of each guest that a change reaches.

A test file belongs to the guests and model libraries that it imports, itself or by a module of tests/support. It is
left out unless such a guest, the file or a module of tests/support that it uses differs from the upstream branch.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUPPORT = Path(__file__).parent
IMPORTS = re.compile(r"^\s*(?:from|import) +(\w+)", re.MULTILINE)
GUESTS = {
    "diptych_lab": "plugin",
    "diptych_serve": "plugin",
    "diptych_adapters": "adapters",
    "diptych_training": "adapters",
    "diptych_experimental": "adapters",
}
MODEL_LIBRARIES = {"torch", "transformers", "tokenizers", "sentence_transformers", "model2vec", "fastembed", "ray"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reach", action="store_true", help="leave out tests of guests that no change reaches")


def pytest_report_header(config: pytest.Config) -> str | None:
    if not config.getoption("--reach"):
        return None
    changed = sorted(name for name in GUESTS if _is_changed(name))
    return f"tests of the core, of the embedded store and of {', '.join(changed) or 'no guest, since none is changed'}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a test file of guests that no change reaches, and a folder of none but such files with its conftest."""
    if not config.getoption("--reach"):
        return None
    files = [*collection_path.rglob("test_*.py")] if collection_path.is_dir() else [collection_path]
    return True if files and all(_is_left_out(file) for file in files) else None


def _is_left_out(file: Path) -> bool:
    if not (file.name.startswith("test_") and file.suffix == ".py"):
        return False
    used = _used_by(file)
    if not used & (GUESTS.keys() | MODEL_LIBRARIES):
        return False
    return file not in changed_files() and not any(_is_changed(name) for name in used)


@cache
def changed_files() -> frozenset[Path]:
    """The files that differ from where the work left the upstream branch, and those git does not know yet."""
    started = _git("merge-base", "HEAD", "@{upstream}") or _git("merge-base", "HEAD", "origin/HEAD") or ["HEAD"]
    names = [*_git("diff", "--name-only", started[0]), *_git("ls-files", "--others", "--exclude-standard")]
    return frozenset(ROOT / name for name in names)


def _git(*arguments: str) -> list[str]:
    """The lines that git answers; none where it refuses, as in a folder that is no clone."""
    answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.split("\n")[:-1] if answer.returncode == 0 else []


@cache
def _is_changed(name: str) -> bool:
    """Whether a guest, one that it imports, or a module of tests/support is changed."""
    if folder := GUESTS.get(name):
        package = ROOT / folder / name
        imported = {other for file in package.rglob("*.py") for other in _imports(file) if other in GUESTS}
        return any(package in file.parents for file in changed_files()) or any(map(_is_changed, imported - {name}))
    return SUPPORT / f"{name}.py" in changed_files()


@cache
def _used_by(file: Path) -> frozenset[str]:
    """What a file of tests imports, and what the modules of tests/support import that it uses."""
    used = set(_imports(file))
    for name in _imports(file):
        if (helper := SUPPORT / f"{name}.py").is_file() and helper != file:
            used |= _used_by(helper)
    return frozenset(used)


@cache
def _imports(file: Path) -> frozenset[str]:
    return frozenset(IMPORTS.findall(file.read_text(encoding="utf-8")))
