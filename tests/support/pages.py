"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import re
from pathlib import Path

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


def is_config(body: str) -> bool:
    """Whether the YAML is a whole config file."""
    return "\nslots:" in f"\n{body}" and "\ncollection:" in f"\n{body}"


def write_config(page: Path, folder: Path) -> None:
    """The page's first whole config is the `diptych.yaml` that its snippets speak of; commands see each in its turn."""
    if configs := [body for body in blocks(page, "yaml") if is_config(body)]:
        (folder / "diptych.yaml").write_text(configs[0], encoding="utf-8")


def program(page: Path) -> str:
    """The page's Python from top to bottom; each whole config on the way becomes the `diptych.yaml` of what follows."""
    parts = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        if match["language"] == "python":
            parts.append(match["body"])
        elif match["language"] == "yaml" and is_config(match["body"]):
            parts.append(f"__import__('pathlib').Path('diptych.yaml').write_text({match['body']!r}, 'utf-8')\n")
    return "\n".join(parts)
