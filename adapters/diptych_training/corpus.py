"""`TrainingData`: queries, documents and judgements, and how they are read from files or collections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from diptych import Document
from diptych.errors import ConfigError
from diptych.evaluate import Qrels, read_queries
from diptych_training.options import DataOptions, JudgedOptions
from diptych_training.relevance import Relevance

Grades: TypeAlias = Mapping[str, Mapping[str, float]]
SHOWN = 5
_DOCUMENTS = ("document", "documents")


class Names(NamedTuple):
    """Where each is read from, and what the lines of `qrels` are, for messages about judgements."""

    queries: str = "the queries"
    documents: str = "the corpus"
    qrels: str = "the qrels"
    judgements: str = "judgements"


NAMES = Names()


@dataclass(frozen=True)
class TrainingData:
    """The data of a training, all by id.

    Args:
        queries: their texts.
        documents: their texts as encoders read them, the title before the text.
        qrels: for each query the grades of its judged documents; above 0 is relevant.
        titles: of documents that have one.
        cut: queries that are removed from their documents if these contain them word for word.
        remarks: sentences for the report on how the data was read.
    """

    queries: Mapping[str, str]
    documents: Mapping[str, str]
    qrels: Grades
    titles: Mapping[str, str] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, queries: Mapping[str, str], documents: Iterable[Document], qrels: Grades, *, names: Names = NAMES
    ) -> TrainingData:
        """From a collection's documents; a remark lists judgements of missing ones.

        Raises:
            ConfigError: no query is judged relevant to any of the documents.
        """
        texts, titles = _read(documents)
        judged = Judged(qrels, queries, texts, names)
        data = cls(queries, texts, judged.usable(), titles, remarks=judged.left_out())
        if not data.qrels:
            raise ConfigError(
                "no training data: no query has a relevant document",
                where="data",
                got=f"{len(queries)} queries, {len(texts)} documents, no pair of them that is judged relevant"
                f"{judged.mismatch()}",
                do="use queries, corpus and qrels of one data set",
            )
        return data

    @classmethod
    def read(cls, options: JudgedOptions, documents: Iterable[Document]) -> TrainingData:
        """From the files that a recipe names.

        Args:
            options: which files of queries and judgements.
            documents: those that `options` name.

        Raises:
            ConfigError, EvaluationError, PopulateError: a file cannot be read, or the files share no judged pair.
        """
        if options.queries is None or options.qrels is None:
            texts, titles = _read(documents)
            return cls({}, texts, {}, titles)  # queries are yet to be written
        names = Names(options.queries.name, _documents_name(options), options.qrels.name)
        return cls.of(_texts(options.queries), documents, Qrels.read(options.qrels).judgements, names=names)

    @cached_property
    def query_numbers(self) -> dict[str, int]:
        """The number of each query, in order."""
        return {query: number for number, query in enumerate(self.queries)}

    @cached_property
    def document_numbers(self) -> dict[str, int]:
        """The number of each document, in order."""
        return {document: number for number, document in enumerate(self.documents)}

    def relevance(self) -> Relevance:
        """The relevance for the losses."""
        return Relevance.of(self.qrels, self.query_numbers, self.document_numbers)

    def document(self, name: str) -> Document:
        """The document with this id, its title and text separate again."""
        title = self.titles.get(name, "")
        return Document(name, self.documents[name].removeprefix(title).strip(), title)

    def answer(self, query: str, name: str) -> str:
        """The text of a document as the answer to a query.

        A query in `cut` is removed from it, unless nothing would remain, so that they match by meaning, not by words.
        Lee, Chang, Toutanova, "Latent Retrieval for Weakly Supervised Open Domain Question Answering", ACL 2019 (the
        inverse cloze task).
        """
        text = self.documents[name]
        if query not in self.cut:
            return text
        return " ".join(text.replace(self.queries[query], " ", 1).split()) or text

    def read_beside(self, query: str, name: str) -> str:
        """The text of a document for a query: its answer where it is relevant, else its text."""
        return self.answer(query, name) if self.qrels.get(query, {}).get(name, 0) > 0 else self.documents[name]

    def relevant(self, query: str) -> list[str]:
        """The documents judged relevant to a query, the highest grade first."""
        grades = self.qrels.get(query, {})
        return sorted((document for document, grade in grades.items() if grade > 0), key=lambda d: (-grades[d], d))

    def relevant_numbers(self) -> dict[int, list[int]]:
        """The documents judged relevant to each query, by number."""
        names = self.document_numbers
        return {self.query_numbers[query]: [names[name] for name in self.relevant(query)] for query in self.qrels}

    def only(self, queries: Iterable[str]) -> TrainingData:
        """The data with the judgements of these queries alone; numbers stay."""
        chosen = set(queries)
        qrels = {query: grades for query, grades in self.qrels.items() if query in chosen}
        return replace(self, qrels=qrels)

    def split(self, share: float, seed: int) -> tuple[TrainingData, TrainingData]:
        """The data for training, and the part of the judged queries, drawn by `seed`, that is held out."""
        names = sorted(self.qrels)
        count = max(1, round(share * len(names))) if share and names else 0
        drawn = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
        return self.only(query for query in names if query not in drawn), self.only(drawn)


def held_out(data: TrainingData, options: DataOptions, seed: int) -> tuple[TrainingData, TrainingData]:
    """The data to train on and the data held out, by judgements of their own or as a share of the queries.

    Raises:
        ConfigError, EvaluationError: see `TrainingData.read`.
    """
    dev, file = options.dev, options.dev.queries or options.queries
    if dev.qrels is None or file is None:
        return data.split(dev.share, seed)
    queries = _texts(file)
    names = Names(file.name, _documents_name(options), dev.qrels.name, "held-out judgements")
    judged = Judged(Qrels.read(dev.qrels).judgements, queries, data.documents, names)
    qrels, remarks = judged.usable(), judged.left_out()
    held_data = TrainingData({**data.queries, **queries}, data.documents, qrels, data.titles, remarks=remarks)
    return data.only(set(data.qrels) - set(qrels)), held_data


def _read(documents: Iterable[Document]) -> tuple[dict[str, str], dict[str, str]]:
    """Texts as encoders read them, and titles, by id."""
    texts, titles = {}, {}
    for document in documents:
        parts = (document.title.strip(), document.text.strip())
        texts[document.id] = " ".join(part for part in parts if part)
        if parts[0]:
            titles[document.id] = parts[0]
    return texts, titles


def _texts(queries: Path) -> dict[str, str]:
    return {query.id or "": query.text for query in read_queries(queries)}


def _documents_name(options: JudgedOptions) -> str:
    return "the corpus" if options.collection is None else "the collection"


def file_name(path: Path) -> str:
    """The short name of a data file in a model card: the last two parts of its path."""
    return "/".join(path.parts[-2:])


@dataclass(frozen=True, slots=True)
class Judged:
    """Judgements with the queries and documents that they refer to.

    Args:
        grades: as they were read, by query and document.
        queries: texts by id.
        documents: texts by id; one without a text is not learned from.
        names: for messages.
    """

    grades: Grades
    queries: Mapping[str, str]
    documents: Mapping[str, str]
    names: Names

    def usable(self) -> dict[str, dict[str, float]]:
        """Judgements whose query and document exist; queries without a relevant document are left out."""
        present = {
            query: {document: grade for document, grade in grades.items() if self.documents.get(document)}
            for query, grades in self.grades.items()
            if query in self.queries
        }
        return {query: grades for query, grades in present.items() if any(grade > 0 for grade in grades.values())}

    def left_out(self) -> tuple[str, ...]:
        """A sentence on how many judgements name a missing query or document, and which; none if none does."""
        pairs = [(query, document) for query, grades in self.grades.items() for document in grades]
        unusable = [pair for pair in pairs if pair[0] not in self.queries or not self.documents.get(pair[1])]
        if not unusable:
            return ()
        queries, names = [query for query, _ in unusable if query not in self.queries], self.names
        documents = [document for query, document in unusable if query in self.queries]
        causes = (
            _counted(queries, "query is", "queries are", f"not in {names.queries}"),
            _counted((d for d in documents if d not in self.documents), *_DOCUMENTS, f"not in {names.documents}"),
            _counted((d for d in documents if d in self.documents), *_DOCUMENTS, "without text"),
        )
        why = ", ".join(filter(None, causes))
        return (f"{len(unusable):,} of {len(pairs):,} {names.judgements} left out: {why}",)

    def mismatch(self) -> str:
        """Why no judgement has an existing query and document, as text, with an id of each side."""
        documents, names = [document for grades in self.grades.values() for document in grades], self.names
        sides = (
            _mismatch("query", self.grades, names.qrels, self.queries, names.queries),
            _mismatch("document", documents, names.qrels, self.documents, names.documents),
        )
        return "".join(f"; {side}" for side in sides if side)


def first_of(ids: Iterable[str]) -> str:
    """The first of some ids as text, each once."""
    names = list(dict.fromkeys(ids))
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _counted(ids: Iterable[str], singular: str, plural: str, where: str) -> str:
    names = list(dict.fromkeys(ids))
    return f"{len(names):,} {singular if len(names) == 1 else plural} {where} ({first_of(names)})" if names else ""


def _mismatch(what: str, judged: Iterable[str], qrels: str, present: Mapping[str, str], place: str) -> str:
    names: Sequence[str] = list(judged)
    if not names or not present or any(name in present for name in names):
        return ""
    return f"no {what} of {qrels} (such as {names[0]!r}) is in {place} (which has {next(iter(present))!r})"
