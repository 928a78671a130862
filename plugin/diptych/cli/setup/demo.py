"""`diptych demo`: 2,000 package descriptions in a folder, searched and measured, without a checkout."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.collections.populate import show_report
from diptych.cli.search.show_hits import hit_document
from diptych.cli.ui.options import JsonOption
from diptych.cli.ui.output import printable, stdout, write_json
from diptych.cli.ui.progress import Bars, waiting
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.types import Hit

FILES = ("corpus.jsonl.gz", "queries.jsonl.gz", "qrels/test.tsv", "README.md")
QUESTIONS = (
    "convert audio files between formats",
    "draw molecules in three dimensions",
    "watch who uses my network bandwidth",
)
_WORDS = """\
# Find a Debian package by what it does. Paths start at this file's folder.
store: edge:./qdrant                      # Qdrant's engine inside this process; later https://... with an api_key
collection: debian
slots:
  words: {adapter: bm25, language: english}
"""
_DENSE = "  dense: {adapter: sentence-transformers, model: all-MiniLM-L6-v2}\n"
_REST = """\
search:
  limit: 3
evaluate:
  queries: queries.jsonl.gz
  qrels: qrels/test.tsv
"""


def demo(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder; created if missing.")] = Path(
        "diptych-demo"
    ),
    dense: Annotated[
        bool, typer.Option("--dense", help="Add a dense model, from diptych\\[demo]; takes minutes on few cores.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fill a collection with 2,000 descriptions of Debian packages, search it, and measure the results.

    Everything stays in the folder and on this machine. Running it again encodes nothing.

    [dim]Examples:[/dim]

      diptych demo

      diptych demo packages --dense
    """
    config = _prepared(folder, _WORDS + (_DENSE if dense else "") + _REST)
    session: Session = context.obj
    with session.collection(config, None, None, create=True) as collection:
        from diptych.populate import open_source
        from diptych.populate import populate as bring_in

        with Bars() as bars:
            report = bring_in(collection.handle, open_source(folder / FILES[0]), progress=bars)
        with waiting("searching"):
            answers = collection.search_batch(QUESTIONS)
        count, measures = _measured(collection, folder)
    if as_json:
        answer_documents = {
            text: [hit_document(hit) for hit in hits] for text, hits in zip(QUESTIONS, answers, strict=True)
        }
        write_json({"config": str(config), "populate": report, "answers": answer_documents, "measures": measures})
    else:
        show_report(report, as_json=False)
        _show(answers)
        scores = ", ".join(f"{measure} {score:.3f}" for measure, score in measures.items())
        judged = f"{count} queries, each with a judged answer: {scores}"
        console = stdout()
        console.print(f"\n{judged}" if measures else '\nto measure the answers: pip install "diptych[eval]"')
        console.print("\nnow you:", style="bold")
        for command in ('search "your words"', 'explain "your words"', "info"):
            console.print(f"  diptych {command} -c {config}", soft_wrap=True)


def _show(answers: Sequence[Sequence[Hit]]) -> None:
    console = stdout()
    for question, hits in zip(QUESTIONS, answers, strict=True):
        console.print(f"\n{question}", style="bold")
        for hit in hits:
            line = printable(f"{hit.id}: {hit.document.text}", limit=90)
            console.print(f"  {hit.score:7.3f}  {line}", soft_wrap=True)


def _measured(collection: Collection, folder: Path) -> tuple[int, Mapping[str, float]]:
    """How many judged queries there are, and the means of the measures; none without the extra `eval`."""
    if importlib.util.find_spec("ir_measures") is None:
        return 0, {}
    from diptych.evaluate import Qrels, evaluate, read_queries
    from diptych.types import Run

    queries = read_queries(folder / FILES[1])
    with waiting(f"{len(queries)} queries, each with a judged answer"):
        run = Run.from_hits("demo", queries, collection.search_batch(queries, limit=10))
        return len(queries), evaluate(run, Qrels.read(folder / FILES[2]), ("nDCG@10", "MRR@10")).means


def _prepared(folder: Path, content: str) -> Path:
    """The config file in a folder with the data. Creates it if it is missing."""
    config = folder / "diptych.yaml"
    if folder.exists() and not (folder / FILES[0]).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("the folder holds something else", where=folder, do="name another one: diptych demo FOLDER")
    # The data of the demo: in the wheel, or in the checkout that an editable install runs from.
    wheel_data = Path(__file__).parents[2] / "demo_data"
    data = wheel_data if wheel_data.is_dir() else Path(__file__).parents[4] / "examples" / "debian"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            shutil.copyfile(data / name, folder / name)
    if config.exists() and config.read_text(encoding="utf-8") != content:
        do = f"name another folder: diptych demo FOLDER; or use it: diptych search -c {config}"
        raise ConfigError("the folder has another config", where=config, do=do)
    config.write_text(content, encoding="utf-8")
    return config
