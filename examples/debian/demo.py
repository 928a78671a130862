"""Fill a collection with real package descriptions, ask it questions, and measure how well it answers.

Run by `make demo`. Everything stays on this machine: the engine is embedded, the model comes out of a PyPI wheel.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from qdrant_client import models
from rich.console import Console
from rich.table import Table

from diptych import Collection, Query
from diptych.cli.output import Bars
from diptych.evaluate import Evaluation, Qrels, evaluate, read_queries, table
from diptych.populate import open_source
from diptych.search import Pipeline, Rescore, Retrieve, Rrf
from diptych.types import Run

HERE = Path(__file__).parent
QUESTIONS = [
    "convert audio files between formats",
    "draw molecules in three dimensions",
    "watch who uses my network bandwidth",
]
METRICS = ("nDCG@10", "MRR@10", "Recall@50")
NEXT = ('search "play music in the terminal"', 'search "play music in the terminal" --explain --limit 2', "info")

exact = models.SearchParams(exact=True)
dense, lexical = Retrieve("dense", 100), Retrieve("lexical", 100)
hybrid = dense + lexical >> Rrf(k=60)
SYSTEMS: dict[str, Pipeline] = {
    "BM25": Pipeline((lexical,)),
    "MiniLM": Pipeline((dense,)),
    "MiniLM, exact": Pipeline((Retrieve("dense", 100, params=exact),)),
    "BM25 + MiniLM (RRF)": hybrid,
    "... then late interaction": hybrid >> Rescore("late", 50),
}


def fill(collection: Collection, console: Console) -> None:
    console.rule("1. Populate")
    with Bars() as progress:
        report = collection.populate(open_source(HERE / "corpus.jsonl.gz"), progress=progress)
    encoded = ", ".join(f"{slot} {count}" for slot, count in report.encoded.items() if count) or "nothing"
    console.print(
        f"{report.read} documents read in {report.seconds:.1f} s: {report.new} new, {report.changed} changed, "
        f"{report.unchanged} unchanged. Encoded: {encoded}."
    )


def ask(collection: Collection, console: Console) -> None:
    console.rule("2. Search")
    for question, hits in zip(QUESTIONS, collection.search_batch(QUESTIONS, limit=3), strict=True):
        results = Table(title=question, title_justify="left", title_style="bold", show_header=False, expand=True)
        for hit in hits:
            results.add_row(hit.id, hit.document.text[:160] + "...", f"{hit.score:.3f}")
        console.print(results)


def measure(collection: Collection, console: Console) -> None:
    console.rule("3. Evaluate")
    queries = read_queries(HERE / "queries.jsonl.gz")
    qrels = Qrels.read(HERE / "qrels" / "test.tsv")
    with console.status("300 queries through each pipeline"):
        evaluations = [score(collection, name, p, queries, qrels) for name, p in SYSTEMS.items()]
    console.print(str(table(evaluations)))


def score(collection: Collection, name: str, pipeline: Pipeline, queries: list[Query], qrels: Qrels) -> Evaluation:
    hits = collection.search_batch(queries, pipeline=pipeline, limit=50)
    return evaluate(Run.from_hits(name, queries, hits), qrels, METRICS)


def show_next(console: Console) -> None:
    console.print("\nThe collection stays. Go on with it:", style="bold")
    program, config = (
        shlex.quote(short(path)) for path in (Path(sys.executable).with_name("diptych"), HERE / "diptych.yaml")
    )
    for command in NEXT:
        console.print(f"  {program} {command} -c {config}", soft_wrap=True, highlight=False)


def short(path: Path) -> str:
    """The path as it is typed in the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def main() -> None:
    console, started = Console(), time.perf_counter()
    with Collection.open(HERE / "diptych.yaml") as collection:
        fill(collection, console)
        ask(collection, console)
        measure(collection, console)
    console.print(f"All of it took {time.perf_counter() - started:.0f} s. Run it again: nothing is encoded twice.")
    show_next(console)


if __name__ == "__main__":
    main()
