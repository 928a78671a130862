"""Records terminal sessions for README and docs: real commands on examples/debian, drawn as animated SVG.

Run `python docs/record.py` (minutes: it encodes 400 descriptions twice). Lines appear in the order in which they
were written; the times between them are chosen for reading and are not those of the run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
IMAGES = Path(__file__).parent / "images"
WIDTH, CHARACTER, LINE, MARGIN, BAR = 100, 8.1, 18, 14, 30  # columns, then pixels
FONT = "font-family='DejaVu Sans Mono, Menlo, Consolas, monospace' font-size='13'"
BACK, TEXT, PROMPT, COMMAND, GOOD = "#1e2127", "#d7dae0", "#8a919e", "#ffffff", "#98c379"
TYPING, READING, PAUSE = 0.9, 0.06, 1.8  # seconds: for a command, for each line, after an output
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # of colours and the cursor
HOLD = 5.0  # seconds that the last picture stays

CONFIG = """\
store: edge:./qdrant
collection: packages
slots:
  dense:   {adapter: sentence-transformers, model: all-MiniLM-L6-v2, truncate_dim: 128}
  lexical: {adapter: bm25, language: english}
evaluate:
  queries: queries.jsonl.gz
  qrels: qrels.tsv
  metrics: [nDCG@10]
"""
PREPARE = [
    f"gzip -dc {ROOT}/examples/debian/corpus.jsonl.gz | sed -n '1,400p' > packages.jsonl",
    f"cp {ROOT}/examples/debian/queries.jsonl.gz .",
    "awk -F'\\t' 'NR == FNR {split($0, part, \"\\\"\"); known[part[4]] = 1; next} FNR == 1 || $2 in known' "
    f"packages.jsonl {ROOT}/examples/debian/qrels/test.tsv > qrels.tsv",
]
SEARCH = [
    "diptych populate packages.jsonl",
    'diptych search "decompress old archives" --limit 3',
    'diptych search "decompress old archives" --explain --limit 1',
]
SWAP = [
    "sed -i 's/, truncate_dim: 128//' diptych.yaml",
    "diptych plan",
    "diptych apply",
    "diptych rollback",
]


@dataclass(frozen=True)
class Said:
    """A command and the lines of its output."""

    command: str
    lines: tuple[str, ...]


def main() -> None:
    """Run both sessions in one folder and write both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "diptych.yaml").write_text(CONFIG, encoding="utf-8")
        for command in PREPARE:
            run(command, folder)
        for name, commands in (("search", SEARCH), ("swap", SWAP)):
            said = [run(command, folder) for command in commands]
            (IMAGES / f"{name}.svg").write_text(animated(said, f"diptych: {name}"), encoding="utf-8")


def run(command: str, folder: str) -> Said:
    """What a command says in a terminal of 100 columns, without its progress bars and colours."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": str(WIDTH), "DIPTYCH_CACHE": "off"}
    terminal, end = os.openpty()
    with subprocess.Popen(
        ["bash", "-c", command], cwd=folder, stdout=end, stderr=subprocess.DEVNULL, env=env
    ) as running:
        os.close(end)
        said = "".join(read_all(terminal))
    assert running.returncode == 0, said
    lines = CONTROL.sub("", said).replace("\r", "").rstrip().splitlines()
    return Said(command, tuple(cut(line.rstrip()) for line in lines))


def read_all(terminal: int) -> Iterator[str]:
    """What is written to the terminal until its other end is closed."""
    with os.fdopen(terminal, encoding="utf-8") as stream, suppress(OSError):  # Linux ends a terminal by EIO
        yield from stream


def cut(line: str) -> str:
    """A line that fits the terminal."""
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def animated(session: list[Said], title: str) -> str:
    """An SVG in which the lines appear one after another; where animation is off, all of them stand there."""
    rows: list[tuple[float, str]] = []
    now = 0.3
    for said in session:
        rows.append((now, prompt(said.command)))
        now += TYPING
        for line in said.lines:
            rows.append((now, f"<tspan fill='{colour(line)}'>{escape(line)}</tspan>"))
            now += READING
        now += PAUSE
    total = now + HOLD
    width, height = int(WIDTH * CHARACTER + 2 * MARGIN), int(BAR + len(rows) * LINE + 2 * MARGIN)
    texts = [line_at(row, start, total, text) for row, (start, text) in enumerate(rows)]
    dots = "".join(
        f"<circle cx='{18 + 18 * at}' cy='15' r='5.5' fill='{fill}'/>"
        for at, fill in enumerate(("#e06c75", "#e5c07b", "#98c379"))
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}' role='img'>\n"
        f"<title>{escape(title)}</title>\n<rect width='{width}' height='{height}' rx='8' fill='{BACK}'/>\n{dots}\n"
        + "\n".join(texts)
        + "\n</svg>\n"
    )


def prompt(command: str) -> str:
    """A command with its prompt."""
    return f"<tspan fill='{PROMPT}'>$ </tspan><tspan fill='{COMMAND}' font-weight='bold'>{escape(command)}</tspan>"


def colour(line: str) -> str:
    """Green for what went well, grey for hints, else the usual."""
    if re.search(r"gate: passed|: cut over|rolled back", line):
        return GOOD
    return PROMPT if line.startswith(("to ", "the old vectors", "     ")) else TEXT


def line_at(row: int, start: float, total: float, text: str) -> str:
    """A line of the terminal, invisible until its time in each round."""
    y = BAR + MARGIN + row * LINE
    share = start / total
    shown = (
        f"<animate attributeName='opacity' dur='{total:.1f}s' repeatCount='indefinite' calcMode='discrete' "
        f"keyTimes='0;{share:.4f}' values='0;1'/>"
    )
    return f"<text x='{MARGIN}' y='{y}' {FONT} xml:space='preserve'>{text}{shown}</text>"


if __name__ == "__main__":
    main()
