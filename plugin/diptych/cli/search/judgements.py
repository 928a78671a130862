"""The judged queries that a command's options name, or else the config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.ui.output import printable, stderr
from diptych.errors import EvaluationError

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.config.models import EvaluateConfig
    from diptych.evaluate import Qrels
    from diptych.types import Query

MOST = 1000  # relevant documents that are looked for


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


def note_absent(collection: Collection, qrels: Qrels, tenant: str | None) -> None:
    """Say on standard error how many relevant documents no search can find, because the collection lacks them."""
    relevant = {document for grades in qrels.judgements.values() for document, grade in grades.items() if grade > 0}
    looked_for = sorted(relevant)[:MOST]
    present = {document.id for document in collection.get(looked_for, tenant=tenant)}
    absent = [identifier for identifier in looked_for if identifier not in present]
    if absent:
        names = printable(", ".join(absent[:3])) + (", ..." if len(absent) > 3 else "")
        stderr().print(
            f"{len(absent):,} of {len(looked_for):,} relevant documents are not in collection {collection.name!r} "
            f"({names}), so no search finds them: fill it whole, or judge what it holds",
            style="yellow",
            soft_wrap=True,
            markup=False,
        )
