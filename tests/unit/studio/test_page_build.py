"""The built page of Studio: made from these sources, small, nothing in it that a CSP refuses."""

import gzip
import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[3] / "plugin"
SOURCES = ROOT / "studio_page"
PAGE = ROOT / "diptych_serve" / "studio" / "page"


def hashes(folder: Path) -> dict[str, str]:
    kept = [path for path in folder.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def test_the_page_is_built_from_the_sources_as_they_are() -> None:
    lines = (PAGE / "sources.sha256").read_text().splitlines()
    built = {name: value for value, _, name in (line.partition("  ") for line in lines)}
    now = hashes(SOURCES)
    changed = sorted(name for name in built.keys() | now.keys() if built.get(name) != now.get(name))
    assert not changed, f"changed since the last build: {changed}; run `make studio-page` and commit the page"


def test_the_page_is_below_400_kb_gzipped() -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in PAGE.iterdir()}
    assert sum(sizes.values()) < 400_000, sizes


def test_the_page_has_no_inline_script_or_style() -> None:
    scripts = {"index.html": [""], "../guide.html": []}
    for name, wanted in scripts.items():
        html = (PAGE / name).read_text()
        assert re.findall(r"<script[^>]*>([^<]*)</script>", html) == wanted
        assert not re.search(r"<style|\sstyle=|\son\w+=", html)


def test_the_page_names_no_other_host() -> None:
    """But for the names of XML spaces, which nobody asks for."""
    texts = [path.read_text() for path in PAGE.iterdir() if path.suffix in {".html", ".js", ".css", ".svg"}]
    urls = {url for text in texts for url in re.findall(r"(?:https?:)?//[\w-]+\.[\w./-]+", text)}
    assert {url for url in urls if not url.startswith("http://www.w3.org/")} == set()


def test_the_guide_is_made_of_its_page_of_the_documentation_as_it_is() -> None:
    digest = hashlib.sha256((ROOT.parent / "docs" / "studio.md").read_bytes()).hexdigest()
    assert digest in (ROOT / "diptych_serve" / "studio" / "guide.html").read_text(), (
        "run `make docs`, and commit guide.html"
    )
