"""The documentation cannot lie: its commands run and say what it shows, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

import preloaded_process
from pages import FENCE, LINK, PAGES, ROOT, is_config, name, with_blocks, write_config
from small_server import Routes, served

SERVER = "http://localhost:6333"


@pytest.mark.slow(first=True)
@pytest.mark.parametrize("page", with_blocks("console"), ids=name)
def test_the_commands_of_a_page_run_one_after_another_and_say_what_it_shows(page: Path, tmp_path: Path) -> None:
    write_config(page, tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    text = page.read_text(encoding="utf-8")
    with server("packages") if SERVER in text else nullcontext(SERVER) as url:
        for block in FENCE.finditer(text.replace(SERVER, url)):
            if block["language"] == "yaml" and is_config(block["body"]):
                (tmp_path / "diptych.yaml").write_text(block["body"], encoding="utf-8")
            if block["language"] == "py":  # a file, whose name is its first line
                (tmp_path / block["body"].split()[1]).write_text(block["body"], encoding="utf-8")
            if block["language"] == "console":
                for command, shown in session(block["body"]):
                    said = run(command, tmp_path)
                    told = f"{name(page)}: {command}\n{said}\ndoes not match\n{shown}"
                    assert not shown or matches(said, shown), told


@contextmanager
def server(collection: str) -> Iterator[str]:
    """The URL of a stand-in for a server, or of the real one that the environment names."""
    if url := os.environ.get("DIPTYCH_TEST_SERVER"):
        try:
            yield url
        finally:
            QdrantClient(url).delete_collection(collection)
    else:
        with served(Routes(version="1.19.0")) as routes:
            yield routes.url


def session(block: str) -> Iterator[tuple[str, str]]:
    """Commands, each with the output shown beneath it, empty where none is."""
    for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        if not command.startswith(("pip ", "make ", "$EDITOR ")):
            yield command, shown.strip()


def run(command: str, folder: Path) -> str:
    path = os.pathsep.join([str(preloaded_process.commands()), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "DIPTYCH_CACHE": str(folder / "cache")}
    shell = ["bash", "-o", "pipefail", "-c", command] if shutil.which("bash") else shlex.split(command)
    done = subprocess.run(
        shell, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return re.sub(r"^.* \.\.\.\n", "", done.stdout, flags=re.MULTILINE)  # phases, which a terminal does not keep


def matches(said: str, shown: str) -> bool:
    """Whether a command said what a page shows: the same words and the same counts, exit codes and names of vectors.

    What differs from run to run may be another: decimals, signed numbers, shares of answers that change, times, sizes,
    rates, users, hashes and dates.
    A line `...` stands for any lines.
    """
    return re.fullmatch("".join(map(_pattern, TOKEN.finditer(shown))), said.strip()) is not None


ANY = {
    "lines": r"(?s:.*?)",
    "space": r"\s+",
    "user": r"\w+@[\w.-]+",
    "hash": r"\b[0-9a-f]{12}\b",
    "date": r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d\S*)?",
    "time": r"(?:under )?\d[\d,.]* (?:ms|s|min|h|days)\b",
    "size": r"[+-]?\d[\d,.]* (?:bytes|[kMGT]B)\b",
    "rate": r"\d[\d,.]*(?: \w+)?/s\b",
    "changed": r"\d+%(?= of \w+ first 10 hits change)",
    "decimal": r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)+",
    "signed": r"(?<![\w.])[+-]\d[\d,]*",
}
SHOWN = {**ANY, "lines": r"\s*^\.\.\.$\s*", "hash": r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b"}
TOKEN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in SHOWN.items()) + "|.", re.MULTILINE)


def _pattern(token: re.Match[str]) -> str:
    return ANY[token.lastgroup] if token.lastgroup else re.escape(token[0])


@pytest.mark.parametrize(
    ("said", "shown", "same"),
    [
        ("400 documents in 1.4 s", "400 documents  in 36.4 s", True),
        ("40 documents in 1.4 s", "400 documents  in 36.4 s", False),
        ("by root@vm, config 5e0c61457173", "by you@host, config 0123456789ab", True),
        ("a\nb\nc\nd", "a\n...\nd", True),
        ("0.86 -> 0.84 [-0.01, +0.00]", "0.86 -> 0.86 [-0.02, -0.01]", True),
        ("re-encode 300  under 1 s  +2.1 MB", "re-encode 300  23 s  +499 kB", True),
        ("re-encode 301  23 s  +499 kB", "re-encode 300  23 s  +499 kB", False),
        ("1,204 documents/s since 2025-11-03 10:12", "87/s since 2025-10-01", True),
        ("exit code 5", "exit code 1", False),
        ("dropped dense.2", "dropped dense.1", False),
        ("live        0", "live 300", False),
        ("95% interval over 50 queries", "95% interval over 40 queries", False),
        ("dense re-encode 4", "dense keep 4", False),
        ("26% of the first 10 hits change", "27% of the first 10 hits change", True),
        ("1% of 100 documents", "2% of 100 documents", False),
        ("better 5, worse 10", "better 5, worse 1 0", False),
        ("a\nd", "a\n...\nd", True),
        ("a\nb", "a", False),
    ],
)
def test_output_matches_by_its_words(said: str, shown: str, same: bool) -> None:
    assert matches(said, shown) is same


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]
    broken = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert broken == []
