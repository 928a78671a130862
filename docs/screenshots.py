"""Photographs Studio's page for README and docs: the real page on examples/debian, in headless Chromium.

Run `python docs/screenshots.py` (minutes: it encodes 2,000 descriptions). It needs Chromium; `make browser` may
install it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
IMAGES = Path(__file__).parent / "images"
DEBIAN = ROOT / "examples" / "debian"
QUERY = "play chess against the computer"
CONFIG = """\
store: edge:./qdrant
collection: debian
slots:
  dense:   {adapter: sentence-transformers, model: all-MiniLM-L6-v2}
  lexical: {adapter: bm25, language: english}
search:
  retrieve: {dense: 100, lexical: 100}
"""


@dataclass(frozen=True)
class Shot:
    """A picture of the page.

    Args:
        link: the view's hash.
        shown: a CSS selector of what must be there before the picture is taken.
        press: the name of a button that begins what is shown; empty for none.
        dark: whether in the dark theme.
        size: of the window, in pixels.
    """

    link: str
    shown: str
    press: str = ""
    dark: bool = False
    size: tuple[int, int] = (1280, 800)


SHOTS = {
    "studio-compare": Shot(f"#/compare?q={QUERY}", ".ribbon"),
    "studio-why": Shot(f"#/compare?q={QUERY}&doc=fairymax", ".words", dark=True, size=(1280, 900)),
    "studio-evaluate": Shot("#/evaluate?a=pipeline&b=slot:dense", ".verdict", press="Evaluate"),
}


def main() -> None:
    """Write all pictures, or those that are named."""
    names = sys.argv[1:] or list(SHOTS)
    with tempfile.TemporaryDirectory() as folder, studio(Path(folder)) as url, chromium() as open_page:
        for name in names:
            take(open_page, url, SHOTS[name], IMAGES / f"{name}.png")


@contextmanager
def studio(folder: Path) -> Iterator[str]:
    """The address of `diptych studio` over debian-mini."""
    (folder / "diptych.yaml").write_text(CONFIG)
    judged = folder / "judged"
    (judged / "qrels").mkdir(parents=True)
    shutil.copy(DEBIAN / "queries.jsonl.gz", judged)
    shutil.copy(DEBIAN / "qrels" / "test.tsv", judged / "qrels")
    diptych = [sys.executable, "-m", "diptych"]
    subprocess.run([*diptych, "populate", str(DEBIAN / "corpus.jsonl.gz")], cwd=folder, check=True)
    command = [*diptych, "studio", "--port", "0", "--json", "--quiet", "--queries", "judged"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = "".join(iter(process.stdout.readline, "}\n")) + "}"
            yield json.loads(said)["url"]
        finally:
            process.terminate()


@contextmanager
def chromium() -> Iterator[Callable[..., Any]]:
    """Opens pages in a headless Chromium."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise SystemExit("no Chromium found; `make browser` installs one where it may")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser.new_page
        browser.close()


def take(open_page: Callable[..., Any], url: str, shot: Shot, path: Path) -> None:
    """Write one picture, in 256 colours."""
    width, height = shot.size
    page = open_page(viewport={"width": width, "height": height}, color_scheme="dark" if shot.dark else "light")
    page.set_default_timeout(300_000)
    page.goto(url + shot.link)
    if shot.press:
        page.get_by_role("button", name=shot.press).first.click()
    page.locator(shot.shown).first.wait_for(state="attached")
    if not shot.press:
        page.reload()  # times of a second run, with the encoders loaded
        page.locator(shot.shown).first.wait_for(state="attached")
    page.wait_for_timeout(1000)
    page.screenshot(path=path)
    page.close()
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
