"""`QuerySets`: the judged queries that Studio can evaluate by, and queries without judgements that can be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from diptych.collection.collection import Collection
from diptych.errors import DiptychError, EvaluationError
from diptych.evaluate import Qrels, read_beir, read_queries
from diptych.evaluate.queries import beir_file
from diptych.runtime.validation_messages import nearest
from diptych.types import Query
from diptych_lab.judge.judgement_files import MANIFEST, QRELS, noted_collections
from diptych_serve.service.error_answers import Refused

Content: TypeAlias = tuple[list[Query], Qrels | None]
Signature: TypeAlias = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a set is read from: its files, some of which may not exist, and what reads them.

    `of` reads for which collections it is judged; None for any.
    """

    files: tuple[Path, ...]
    read: Callable[[], Content]
    of: Callable[[], Sequence[str] | None]

    @property
    def signature(self) -> Signature:
        """Sizes and times of the files, which tell whether they are as they were."""
        found = ((file, file.stat()) if file.exists() else (file, None) for file in self.files)
        return tuple(None if facts is None else (facts.st_size, facts.st_mtime_ns) for _, facts in found)


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


@dataclass(frozen=True, slots=True)
class Judged:
    """A judged query: its set, its id, the grades of documents, and of which collections they are; None for any."""

    name: str
    query: str
    grades: Mapping[str, int]
    of: Sequence[str] | None


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
        self._known: dict[str, tuple[Signature, dict[str, Any]]] = {}
        self._judged: dict[str, tuple[Signature, dict[str, Judged]]] = {}
        for folder in folders:
            _read(folder)  # so that a wrong name is an error at the start

    def names(self, collections: Iterable[Collection]) -> list[str]:
        """What can be named now; what was judged here once there is something."""
        return list(self._sources(collections))

    def get(self, name: str, collections: Iterable[Collection]) -> QuerySet:
        """The set of this name, read now.

        Args:
            name: one of `names`.
            collections: those of the service, whose configs may name judged queries.

        Raises:
            Refused: there is none.
            EvaluationError: its files cannot be read.
        """
        sources = self._sources(collections)
        if name not in sources:
            known, hint = ", ".join(sources) or "none: start Studio with --queries FOLDER", nearest(name, sources)
            do = f"\n  do: {hint}" if hint else ""
            message = f"there are no judged queries {name[:80]!r}\n  expected: {known}{do}"
            raise Refused(404, message, code="no_such_queries", param="judged")
        queries, qrels = sources[name].read()
        return QuerySet(name, tuple(queries), qrels)

    def judged_query(
        self, text: str, collection: Collection, collections: Iterable[Collection], *, first: str | None = None
    ) -> Judged | None:
        """The judged query with these words; None if no set has one, or only one that is judged for another collection.

        Args:
            text: the words, without media.
            collection: whose documents are wanted.
            collections: those of the service, as for `get`.
            first: the set to look in before all others.
        """
        sources = self._sources(collections)
        for name in sorted(sources, key=lambda name: name != first):
            found = self._texts(name, sources[name]).get(text.strip())
            if found and (found.of is None or collection.name in found.of):
                return found
        return None

    def _texts(self, name: str, source: Source) -> dict[str, Judged]:
        """The judged queries of a set by their words, read anew if its files have changed."""
        signature, (before, texts) = source.signature, self._judged.get(name, ((), {}))
        if before != signature:
            texts = _judged_texts(name, source)
            self._judged[name] = signature, texts
        return texts

    def described(self, collections: Iterable[Collection]) -> list[dict[str, Any]]:
        """Each set with its number of queries and of judged ones; `error` says why one cannot be read."""
        return [self._described(name, source) for name, source in self._sources(collections).items()]

    def _described(self, name: str, source: Source) -> dict[str, Any]:
        """The facts of a set, counted anew if its files have changed: every page that opens asks for them."""
        signature, (before, facts) = source.signature, self._known.get(name, ((), {}))
        if not facts or before != signature:
            facts = _facts(name, source)
            self._known[name] = signature, facts
        return facts

    def _sources(self, collections: Iterable[Collection]) -> dict[str, Source]:
        sources = {
            name: Source(_files_of(place), partial(_read, place), partial(noted_collections, place))
            for name, place in self._places.items()
            if place != self._judgements or (place / QRELS).exists()
        }
        for collection in collections:
            settings = collection.handle.config.evaluate if collection.handle.config else None
            if settings is not None and settings.queries and settings.qrels:
                paths = (settings.queries, settings.qrels)
                own = (collection.name,)
                source = Source(tuple(map(Path, paths)), partial(_read_files, *paths), partial(tuple, own))
                sources.setdefault(f"config of {collection.name}", source)
        return sources


def _facts(name: str, source: Source) -> dict[str, Any]:
    try:
        queries, qrels = source.read()
    except DiptychError as error:
        return {"name": name, "queries": 0, "judged": 0, "error": str(error)}
    return {"name": name, "queries": len(queries), "judged": len(qrels) if qrels is not None else 0, "error": None}


def _judged_texts(name: str, source: Source) -> dict[str, Judged]:
    try:
        (queries, qrels), of = source.read(), source.of()
    except DiptychError:  # `described` says so
        return {}
    grades = qrels.judgements if qrels is not None else {}
    texts = {query.text.strip(): query.id for query in reversed(queries) if query.id in grades and not query.media}
    return {text: Judged(name, query, grades[query], of) for text, query in texts.items()}


def _files_of(place: Path) -> tuple[Path, ...]:
    """The files that a set at this place may consist of."""
    names = ("queries.jsonl", "queries.jsonl.gz", "qrels/test.tsv", "qrels/test.tsv.gz", MANIFEST)
    return (place, *(place / name for name in names))


def _read(place: Path) -> Content:
    """The queries of a folder or a file, and their judgements where the folder has any."""
    if place.is_file():
        return read_queries(place), None
    if (place / "qrels").is_dir():
        return read_beir(place)
    return read_queries(beir_file(place, "queries.jsonl")), None


def _read_files(queries: str, qrels: str) -> Content:
    judgements = Qrels.read(qrels)
    return [query for query in read_queries(queries) if query.id in judgements.judgements], judgements


def _names(folders: Sequence[Path]) -> list[str]:
    """A short name for each: its own, with that of the folder above where two have the same."""
    places = [folder.absolute() for folder in folders]
    own = [place.name for place in places]
    longer = [place.name if own.count(place.name) == 1 else f"{place.parent.name}/{place.name}" for place in places]
    return [name if longer.count(name) == 1 else str(place) for name, place in zip(longer, places, strict=True)]
