"""`QuerySets`: the judged queries that Studio can evaluate by, and queries without judgements that can be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from diptych.collection.collection import Collection
from diptych.errors import DiptychError, EvaluationError
from diptych.evaluate import Qrels, read_beir, read_queries
from diptych.evaluate.queries import beir_file
from diptych.judge.judgements import QRELS
from diptych.service.error_answers import Refused
from diptych.types import Query
from qdrant_edge_client.validation_messages import nearest

Reader: TypeAlias = Callable[[], tuple[list[Query], Qrels | None]]


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Queries with their judgements; `qrels` is None where there are none yet."""

    name: str
    queries: tuple[Query, ...]
    qrels: Qrels | None = None

    def judged(self) -> tuple[list[Query], Qrels]:
        """The judged queries, and their judgements.

        Raises:
            EvaluationError: there are none.
        """
        if self.qrels is None or not len(self.qrels):
            do = "judge some in Studio or with diptych judge, or name a BEIR folder with qrels/test.tsv"
            raise EvaluationError(f"queries {self.name!r} are not judged", do=do)
        return [query for query in self.queries if query.id in self.qrels.judgements], self.qrels


class QuerySets:
    """The query sets by name: folders that were named, those of the collections' configs, and what was judged here.

    They are read when they are used, so that judgements which came meanwhile count.

    Args:
        folders: BEIR folders, or folders or files with queries alone.
        judgements: the folder that judging saves to.

    Raises:
        EvaluationError: a folder cannot be read.
    """

    def __init__(self, folders: Sequence[Path] = (), judgements: Path | None = None) -> None:
        places = [*folders, *([judgements] if judgements else [])]
        self._places = dict(zip(_names(places), places, strict=True))
        self._judgements = judgements
        for folder in folders:
            _read(folder)  # so that a wrong name is an error at the start

    def names(self, collections: Iterable[Collection]) -> list[str]:
        """What can be named now; what was judged here once there is something."""
        return list(self._readers(collections))

    def get(self, name: str, collections: Iterable[Collection]) -> QuerySet:
        """The set of this name, read now.

        Args:
            name: one of `names`.
            collections: those of the service, whose configs may name judged queries.

        Raises:
            Refused: there is none.
            EvaluationError: its files cannot be read.
        """
        readers = self._readers(collections)
        if name not in readers:
            known, hint = ", ".join(readers) or "none: begin Studio with --queries FOLDER", nearest(name, readers)
            do = f"\n  do: {hint}" if hint else ""
            message = f"there are no judged queries {name[:80]!r}\n  expected: {known}{do}"
            raise Refused(404, message, code="no_such_queries", param="judged")
        queries, qrels = readers[name]()
        return QuerySet(name, tuple(queries), qrels)

    def described(self, collections: Iterable[Collection]) -> list[dict[str, Any]]:
        """Each set with its number of queries and of judged ones; `error` says why one cannot be read."""
        return [_described(name, read) for name, read in self._readers(collections).items()]

    def _readers(self, collections: Iterable[Collection]) -> dict[str, Reader]:
        readers: dict[str, Reader] = {
            name: partial(_read, place)
            for name, place in self._places.items()
            if place != self._judgements or (place / QRELS).exists()
        }
        for collection in collections:
            settings = collection.handle.config.evaluate if collection.handle.config else None
            if settings is not None and settings.queries and settings.qrels:
                readers.setdefault(f"config of {collection.name}", partial(_files, settings.queries, settings.qrels))
        return readers


def _described(name: str, read: Reader) -> dict[str, Any]:
    try:
        queries, qrels = read()
    except DiptychError as error:
        return {"name": name, "queries": 0, "judged": 0, "error": str(error)}
    return {"name": name, "queries": len(queries), "judged": len(qrels) if qrels is not None else 0, "error": None}


def _read(place: Path) -> tuple[list[Query], Qrels | None]:
    """The queries of a folder or a file, and their judgements where the folder has any."""
    if place.is_file():
        return read_queries(place), None
    if (place / "qrels").is_dir():
        return read_beir(place)
    return read_queries(beir_file(place, "queries.jsonl")), None


def _files(queries: str, qrels: str) -> tuple[list[Query], Qrels]:
    judgements = Qrels.read(qrels)
    return [query for query in read_queries(queries) if query.id in judgements.judgements], judgements


def _names(folders: Sequence[Path]) -> list[str]:
    """A short name for each: its own, with that of the folder above where two have the same."""
    places = [folder.absolute() for folder in folders]
    own = [place.name for place in places]
    longer = [place.name if own.count(place.name) == 1 else f"{place.parent.name}/{place.name}" for place in places]
    return [name if longer.count(name) == 1 else str(place) for name, place in zip(longer, places, strict=True)]
