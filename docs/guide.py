"""Writes docs/studio.md as plugin/diptych_serve/studio/guide.html, the guide that Studio's page links to.

`make docs` runs it. The wheel contains no other page of the documentation, so links to other pages become plain words,
and pictures are left out.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from markdown import Markdown

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "docs" / "studio.md"
GUIDE = ROOT / "plugin" / "diptych_serve" / "studio" / "guide.html"
HEAD = """\
<!doctype html>
<!-- Written by docs/guide.py; change docs/studio.md (sha256 {digest}), not this page. -->
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="referrer" content="no-referrer" />
    <meta name="color-scheme" content="light dark" />
    <title>Guide · diptych Studio</title>
    <link rel="icon" href="./favicon.svg" type="image/svg+xml" />
    <link rel="stylesheet" href="./studio.css" />
  </head>
  <body class="guide">
    <header class="top"><p class="top-row"><a href="./">Back to Studio</a></p></header>
    <main class="main">
"""
LINK = r"\[([^\]]+)\]\((?!#)[^)]*\)"
CUTS = (  # pictures, references to another page alone, and links to other pages
    (r"^!\[[^\]]*\]\([^)]*\)\n\n?", ""),
    (rf"\s+\({LINK}\)| See {LINK}\.$", ""),
    (LINK, r"\1"),
)
SCROLLS = '<div class="table-wrap" role="region" aria-label="Table" tabindex="0">'
FOOT = """\
    </main>
  </body>
</html>
"""


def guide() -> str:
    """The guide as an HTML page."""
    text = SOURCE.read_text("utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    for pattern, words in CUTS:
        text = re.sub(pattern, words, text, flags=re.MULTILINE)
    title, _, body = text.partition("\n")
    options = {"toc": {"toc_depth": "2-2"}}
    markdown = Markdown(extensions=["tables", "fenced_code", "toc"], extension_configs=options)
    shown = markdown.convert(f"{title}\n\n[TOC]\n{body}")
    shown = shown.replace('<div class="toc">', '<nav class="toc" aria-label="Contents">').replace("</div>", "</nav>", 1)
    shown = shown.replace("<table>", f'{SCROLLS}<table class="table">').replace("</table>", "</table></div>")
    shown = shown.replace("<pre>", '<pre class="code" tabindex="0" role="region" aria-label="Commands">')
    return HEAD.format(digest=digest) + shown + "\n" + FOOT


def main() -> None:
    """Write the guide."""
    GUIDE.write_text(guide(), "utf-8")


if __name__ == "__main__":
    main()
