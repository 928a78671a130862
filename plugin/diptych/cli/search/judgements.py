"""The judged queries that a command's options name, or else the config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.ui.output import printable, stderr, stdout
from diptych.errors import EvaluationError

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.config.models import EvaluateConfig
    from diptych.evaluate import Qrels
    from diptych.types import Query


def judged_queries(
    settings: EvaluateConfig, folder: Path | None, queries: Path | None, qrels: Path | None
) -> tuple[list[Query], Qrels]:
    """The queries that are judged, and the judgements.

    Raises:
        EvaluationError: none are named, or they cannot be read.
    """
    from diptych.evaluate import Qrels, read_beir, read_queries

    if folder is not None and queries is None and qrels is None:
        return read_beir(folder)
    places = {"queries": queries or settings.queries, "qrels": qrels or settings.qrels}
    for name, place in places.items():
        if place is None:
            do = f"give a BEIR folder, --{name} FILE, or evaluate.{name} in the config file"
            raise EvaluationError(f"no {name} are named", do=do)
    judgements = Qrels.read(str(places["qrels"]))
    return [query for query in read_queries(str(places["queries"])) if query.id in judgements.judgements], judgements


def note_left_out(names: Sequence[str]) -> None:
    """Name the runs that are left out because they can search with none of the queries."""
    if names:
        text = f"left out: {', '.join(names)}, which can search with none of the queries"
        stderr().print(text, style="yellow", soft_wrap=True, markup=False)


def note_absent(collection: Collection, qrels: Qrels, tenant: str | None) -> None:
    """Say on standard error how many relevant documents no search can find, because the collection lacks them."""
    from diptych.collection.pipeline_runs import absent_documents

    if sentence := absent_documents(collection, qrels, tenant):
        stderr().print(printable(sentence), style="yellow", soft_wrap=True, markup=False)


def note_unnamed(
    settings: EvaluateConfig, config: Path, folder: Path | None, queries: Path | None, qrels: Path | None
) -> None:
    """Say how the config names the judgements of the command's options, if it names none, for the gate of `apply`."""
    from diptych.evaluate.qrels import beir_file

    if folder is not None and queries is None and qrels is None:
        queries, qrels = beir_file(folder, "queries.jsonl"), beir_file(folder / "qrels", "test.tsv")
    if settings.queries is None and settings.qrels is None and queries is not None and qrels is not None:
        places = f"{{queries: {_from_config(queries, config)}, qrels: {_from_config(qrels, config)}}}"
        text = f"for the gate of apply, name these judgements in the config: evaluate: {places}"
        stdout().print(printable(text), soft_wrap=True, markup=False)


def _from_config(path: Path, config: Path) -> str:
    """The path as the config may name it, relative to the config's folder; in quotes where YAML needs them."""
    from diptych.cli.setup.template import scalar

    return scalar(str(path if config.parent == Path() else path.absolute()))
