"""The documentation site builds without a warning, asks nothing of other hosts, and shows every public name."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import diptych
import diptych.errors
from pages import ROOT

# The theme fetches these only in old browsers, or where a page has a Mermaid diagram (none has).
UNUSED = re.compile(r"https://unpkg\.com/(mermaid|resize-observer-polyfill)")
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"?(https?://[^\"\s>]+)[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_page_of_the_documentation_is_on_the_site(site: Path) -> None:
    wanted = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    wanted = {page.with_name("index.html") if page.name == "README.html" else page for page in wanted}
    assert {page for page in wanted if not (site / page).is_file()} == set()


@pytest.mark.slow
def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    loaded = {url for page in pages for url in LOADED.findall(page.read_text(encoding="utf-8"))}
    assert loaded == set()
    scripts = "".join(script.read_text(encoding="utf-8") for script in site.rglob("bundle*.js"))
    assert "unpkg.com" not in UNUSED.sub("", scripts)
    assert not any('class="mermaid"' in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.slow
def test_every_public_name_has_its_entry(site: Path) -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in (site / "reference" / "api").glob("*.html"))
    headings = set(re.findall(r"<h\d id=\"([\w.]+)\"", shown))
    names = {name for name in diptych.__all__ if not name.startswith("__") and name != "errors"}
    names |= {name for name, value in vars(diptych.errors).items() if isinstance(value, type) and name[0].isupper()}
    assert {name for name in names if not any(heading.endswith(f".{name}") for heading in headings)} == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        *("search", "populate", "swap", "evaluate", "stores", "copying", "adopt", "config", "media", "passages"),
        *("training", "testing", "clients", "diptych_lab.tune", "diptych_lab.judge"),
    ],
)
def test_every_public_name_of_a_documented_module_has_its_entry(site: Path, module: str) -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in (site / "reference" / "api").glob("*.html"))
    headings = {heading.rpartition(".")[2] for heading in re.findall(r"<h\d id=\"([\w.]+)\"", shown)}
    assert set(importlib.import_module(module if "_" in module else f"diptych.{module}").__all__) - headings == set()


@pytest.mark.slow
def test_llms_txt_lists_every_page_once(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): .", text, re.MULTILINE)
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")} - {"404.html"}
    assert len(listed) == len(set(listed))
    assert pages - set(listed) == set()
    assert set(listed) <= pages
    assert [line for line in text.splitlines() if line.startswith("- ") and line.endswith(": ")] == []
