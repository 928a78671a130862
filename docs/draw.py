"""Draws the diagrams of docs/architecture.md as SVG. Run `python docs/draw.py`; a test compares the committed files.

A diagram is a list of boxes and arrows with fixed coordinates, so that it needs no layout engine and no browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).parent / "images"
LINE = 16  # pixels between two lines of text
FONT = "font-family='Helvetica, Arial, DejaVu Sans, sans-serif'"
FILL = {"plain": "#ffffff", "host": "#e8f0fe", "guest": "#fef3e0", "store": "#e6f4ea", "old": "#eeeeee"}
INK = "#333333"


@dataclass(frozen=True)
class Box:
    """A box with a title and lines of text; `at` is its left upper corner."""

    at: tuple[int, int]
    size: tuple[int, int]
    title: str
    lines: Sequence[str] = ()
    fill: str = "plain"
    round: bool = False

    def svg(self) -> str:
        """The box as SVG elements."""
        (x, y), (width, height) = self.at, self.size
        rows = 1 + len(self.lines)
        top = y + (height - rows * LINE) // 2 + 12
        corner = 14 if self.round else 4
        place = f"x='{x}' y='{y}' width='{width}' height='{height}' rx='{corner}'"
        shape = f"<rect {place} fill='{FILL[self.fill]}' stroke='{INK}'/>"
        middle = x + width // 2
        texts = [_text(middle, top, self.title, bold=True)]
        texts += [_text(middle, top + LINE * (row + 1), line) for row, line in enumerate(self.lines)]
        return "\n".join([shape, *texts])


@dataclass(frozen=True)
class Arrow:
    """An arrow along `points`, with a label whose middle is at `label_at`."""

    points: Sequence[tuple[int, int]]
    label: str = ""
    label_at: tuple[int, int] = (0, 0)
    dashed: bool = False

    def svg(self) -> str:
        """The arrow as SVG elements."""
        path = " ".join(f"{x},{y}" for x, y in self.points)
        dash = " stroke-dasharray='5 4'" if self.dashed else ""
        line = f"<polyline points='{path}' fill='none' stroke='{INK}'{dash} marker-end='url(#head)'/>"
        rows = self.label.split("\n") if self.label else []
        texts = [_text(self.label_at[0], self.label_at[1] + LINE * row, part, size=11) for row, part in enumerate(rows)]
        return "\n".join([line, *texts])


def drawing(title: str, width: int, height: int, parts: Sequence[Box | Arrow]) -> str:
    """A whole SVG file."""
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}' role='img'>\n"
        f"<title>{escape(title)}</title>\n"
        "<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' orient='auto'>"
        f"<path d='M0,0 L8,4 L0,8 z' fill='{INK}'/></marker></defs>\n"
        f"<rect width='{width}' height='{height}' rx='8' fill='#fbfbfb'/>\n"
    )
    return head + "\n".join(part.svg() for part in parts) + "\n</svg>\n"


def _text(x: int, y: int, text: str, *, bold: bool = False, size: int = 12) -> str:
    weight = " font-weight='bold'" if bold else ""
    style = f"{FONT} font-size='{size}' text-anchor='middle' fill='{INK}'{weight}"
    return f"<text x='{x}' y='{y}' {style}>{escape(text)}</text>"


def packages() -> str:
    """The packages, and which way calls go."""
    return drawing(
        "The packages of diptych: who calls whom",
        920,
        470,
        [
            Box((20, 20), (180, 56), "cli", ["diptych populate, search, ..."], "host"),
            Box((220, 20), (180, 56), "service, agents", ["diptych serve, diptych studio"], "host"),
            Box((420, 20), (220, 56), "bridges", ["LangChain, LlamaIndex, Haystack"], "guest"),
            Box((660, 20), (240, 56), "your program", ["import diptych"]),
            Box((20, 116), (620, 48), "Collection", ["opens a collection; each method calls one room below"], "host"),
            Box((20, 204), (140, 64), "populate", ["check, compare,", "encode, upload"], "host"),
            Box((180, 204), (140, 64), "search", ["retrieve, fuse,", "rescore, rerank"], "host"),
            Box((340, 204), (140, 64), "swap", ["plan, apply,", "rollback, finish"], "host"),
            Box((500, 204), (140, 64), "others", ["evaluate, explain,", "tune, copy, adopt"], "host"),
            Box(
                (20, 308), (290, 64), "handle", ["the view that is live: slots, pipeline;", "follows cut-overs"], "host"
            ),
            Box(
                (330, 308),
                (310, 64),
                "metadata",
                ["who made which vectors, swap, history;", "kept in the collection"],
                "host",
            ),
            Box((680, 116), (220, 48), "registry", ["finds adapters by entry points"], "host"),
            Box(
                (680, 204),
                (220, 64),
                "diptych_adapters",
                ["dense, sparse, multi-vector,", "rerankers: the only torch"],
                "guest",
            ),
            Box((680, 288), (220, 48), "your adapter", ["the same hooks"], "plain"),
            Box((680, 356), (220, 48), "diptych_training", ["recipes of diptych train"], "guest"),
            Box(
                (20, 408),
                (620, 44),
                "stores: one interface, qdrant-client's",
                ["Qdrant Edge in the process, a server, a cluster, memory"],
                "store",
            ),
            *(Arrow([(x, 76), (x, 116)]) for x in (110, 310, 530)),
            Arrow([(700, 76), (700, 96), (600, 96), (600, 116)]),
            *(Arrow([(x, 164), (x, 204)]) for x in (90, 250, 410, 570)),
            *(Arrow([(x, 268), (x, 308)]) for x in (90, 250, 410, 570)),
            *(Arrow([(x, 372), (x, 408)]) for x in (165, 485)),
            Arrow([(640, 140), (680, 140)]),
            Arrow([(790, 204), (790, 164)]),
            Arrow([(680, 312), (660, 312), (660, 150), (680, 150)]),
            Arrow([(680, 380), (650, 380), (650, 158), (680, 158)]),
        ],
    )


def handle_states() -> str:
    """What an open handle may be, and what moves it on."""
    return drawing(
        "The states of an open collection handle",
        900,
        330,
        [
            Box((20, 40), (170, 60), "no collection", ["opened from a config"], round=True),
            Box((290, 40), (200, 60), "view n", ["encoders not loaded yet"], "host", round=True),
            Box((630, 40), (200, 60), "view n, serving", ["encoders proven by canaries"], "host", round=True),
            Box((630, 190), (200, 60), "loading view n + 1", ["view n goes on answering"], "store", round=True),
            Box((290, 190), (200, 60), "refused", ["FingerprintMismatch"], "old", round=True),
            Box((20, 190), (170, 60), "closed", round=True),
            Arrow([(190, 70), (290, 70)], "first populate,\nby any process", (240, 40)),
            Arrow([(490, 60), (630, 60)], "first query or write", (560, 50)),
            Arrow([(390, 100), (390, 190)], "another encoder made\nthe vectors", (322, 140)),
            Arrow([(690, 100), (690, 190)], "metadata shows\na cut-over", (636, 140)),
            Arrow([(780, 190), (780, 100)], "encoders loaded:\nn + 1 becomes n", (838, 140)),
            Arrow(
                [(730, 250), (730, 290), (870, 290), (870, 70), (830, 70)],
                "cannot be loaded: FollowWarning, tried again at the next look",
                (500, 294),
            ),
            Arrow([(330, 100), (330, 120), (105, 120), (105, 190)], "close()", (210, 115)),
        ],
    )


def swap_states() -> str:
    """What a collection's metadata say during a swap."""
    return drawing(
        "The states of a collection during a swap",
        900,
        300,
        [
            Box((30, 60), (200, 76), "live", ["dense.1 answers,", "populate writes dense.1"], "host", round=True),
            Box(
                (350, 60),
                (220, 76),
                "live + swap",
                ["dense.1 answers,", "populate writes dense.1, dense.2"],
                "store",
                round=True,
            ),
            Box(
                (660, 60),
                (220, 76),
                "live + previous",
                ["dense.2 answers,", "populate writes dense.1, dense.2"],
                "host",
                round=True,
            ),
            Arrow([(230, 84), (350, 84)], "apply announces", (290, 76)),
            Arrow([(350, 116), (230, 116)], "rollback", (290, 132)),
            Arrow([(570, 84), (660, 84)], "cut-over", (614, 76)),
            Arrow(
                [(430, 60), (430, 20), (500, 20), (500, 60)],
                "kill: apply again continues; gate fails: dense.1 stays live",
                (465, 14),
            ),
            Arrow(
                [(730, 136), (730, 180), (830, 180), (830, 136)],
                "rollback: live and previous\nchange places",
                (780, 200),
            ),
            Arrow(
                [(690, 136), (690, 250), (130, 250), (130, 136)],
                "finish: dense.1 is dropped, dense.2 is what is live",
                (410, 242),
            ),
        ],
    )


def populate_pipeline() -> str:
    """The way of a document from its source to a point."""
    return drawing(
        "The populate pipeline",
        920,
        330,
        [
            Box((20, 110), (130, 76), "source", ["read ahead,", "caller's thread"]),
            Box((190, 110), (150, 76), "validate", ["text, size, id, tenant,", "payload"], "host"),
            Box(
                (370, 110),
                (160, 76),
                "compare hashes",
                ["skip what is unchanged,", "cut pieces of half a chunk"],
                "host",
            ),
            Box((570, 60), (150, 48), "encode dense", ["a thread a slot"], "guest"),
            Box((570, 124), (150, 48), "encode lexical", ["same piece, same time"], "guest"),
            Box((570, 188), (150, 48), "encode late", ["..."], "guest"),
            Box((760, 110), (140, 76), "upload", ["pieces in order,", "with retries"], "store"),
            Box((190, 262), (340, 48), "rejected, in the report", ["id and reason; the run goes on"], "old"),
            Arrow([(150, 148), (190, 148)]),
            Arrow([(340, 148), (370, 148)]),
            Arrow([(530, 148), (570, 148)]),
            Arrow([(550, 148), (550, 84), (570, 84)]),
            Arrow([(550, 148), (550, 212), (570, 212)]),
            Arrow([(720, 148), (760, 148)]),
            Arrow([(720, 84), (740, 84), (740, 148), (760, 148)]),
            Arrow([(720, 212), (740, 212), (740, 148), (760, 148)]),
            Arrow([(265, 186), (265, 262)], dashed=True),
            Arrow(
                [(645, 236), (645, 286), (530, 286)],
                "a piece that fails is halved until one document is left",
                (690, 306),
                dashed=True,
            ),
            Arrow([(830, 186), (830, 280), (530, 280)], dashed=True),
            Arrow(
                [(830, 110), (830, 30), (455, 30), (455, 110)],
                "at most one chunk under way: what a crash costs",
                (640, 22),
            ),
        ],
    )


DRAWINGS = {
    "architecture.svg": packages,
    "handle-states.svg": handle_states,
    "swap-states.svg": swap_states,
    "populate-pipeline.svg": populate_pipeline,
}


def main() -> None:
    """Write every drawing."""
    for name, draw in DRAWINGS.items():
        (IMAGES / name).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
