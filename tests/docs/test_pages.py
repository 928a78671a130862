"""The documentation cannot lie: its Python runs, its commands run, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("README.md")])
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]+)[^)]*\)")


def blocks(page: Path, language: str) -> list[str]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [match["body"] for match in found if match["language"] == language]


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def write_config(page: Path, folder: Path) -> None:
    """The page's first whole config is the `diptych.yaml` that its snippets speak of."""
    configs = [body for body in blocks(page, "yaml") if "\nslots:" in f"\n{body}" and "\ncollection:" in f"\n{body}"]
    if configs:
        (folder / "diptych.yaml").write_text(configs[0], encoding="utf-8")


@pytest.mark.parametrize("page", with_blocks("python"), ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    write_config(page, tmp_path)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{name(page)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", with_blocks("console"), ids=name)
def test_the_commands_of_a_page_run_one_after_another(page: Path, tmp_path: Path) -> None:
    write_config(page, tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in "".join(blocks(page, "console")).replace("\\\n", " ").splitlines():
        if line.startswith("$ diptych"):
            command = shlex.split(line.removeprefix("$ "), comments=True)
            env = {**os.environ, "PATH": path}
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=env)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]
    broken = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert broken == []
