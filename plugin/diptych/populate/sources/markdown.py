"""Markdown as title and text: front matter is removed, and so is the heading that became the title."""

from __future__ import annotations

import re

_KEY = re.compile(r"[\w.-]+\s*:(\s|$)")
_TITLE = re.compile(r"title\s*:\s*(.*?)\s*$", re.IGNORECASE)


def parse_markdown(text: str) -> tuple[str, str]:
    """Title and text: the title is that of the front matter, or else the first heading outside of code blocks.

    The heading leaves the text when it is the title; another one stays.
    """
    matter, lines = _split(text.splitlines())
    at = _heading_at(lines)
    heading = "" if at is None else lines[at].strip("# \t")
    title = _title(matter) or heading
    if at is not None and heading.casefold() == title.casefold():
        del lines[at]
    return title, "\n".join(lines).strip() if matter or title else text


def _split(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines of the front matter, YAML between two `---`, and the rest; a lone rule `---` does not start one."""
    if not lines or lines[0].rstrip() != "---":
        return [], lines
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), 0)
    matter = lines[1:end]
    return (matter, lines[end + 1 :]) if matter and all(map(_is_yaml, matter)) else ([], lines)


def _is_yaml(line: str) -> bool:
    return not line.strip() or line[0] in " \t#-]}" or _KEY.match(line) is not None


def _title(matter: list[str]) -> str:
    found = next((match[1] for line in matter if (match := _TITLE.match(line))), "")
    if found[:1] in ("'", '"') and found[-1:] == found[:1] and len(found) > 1:
        return found[1:-1].replace("''" if found[0] == "'" else '\\"', found[0]).strip()
    return "" if found[:1] in ("|", ">", "~") or found == "null" else found


def _heading_at(lines: list[str]) -> int | None:
    fenced = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and line.startswith("#") and line.lstrip("#").startswith(" ") and line.strip("# \t"):
            return number
    return None
