"""`student`: a small model learns to make the queries of an encoder whose index stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from pydantic import Field, model_validator
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from sentence_transformers.util import cos_sim

from diptych import Document
from diptych.encoders import Encoders, NamedEncoder
from diptych.errors import ConfigError
from diptych.evaluate import read_queries
from diptych.protocols import TEACHER_FILE
from diptych.training import Registration, RelativePath
from diptych.types import Floats
from diptych_training.corpus import TrainingData
from diptych_training.data.generators import sentences_of
from diptych_training.losses.distillation import StudentLoss
from diptych_training.options import AboveZero, EncoderOptions, JudgedOptions, Positive, RecipeOptions, Section
from diptych_training.recipes.base import Training
from diptych_training.recipes.negatives import documents_of
from diptych_training.running import Fitted
from diptych_training.running.run import PRIMARY, HeldOutEvaluator, by_metric, search_evaluator

VECTORS, TEXTS = "vectors", "texts"
BATCH = 256  # texts that are encoded at a time
TOP = 10  # documents that the teacher finds, which stand for judgements where there are none

COMMON = 1e-3  # share of all tokens at which a token counts half


class TextsOptions(JudgedOptions):
    """The texts to learn from: queries without judgements, and sentences and titles of documents."""

    queries: RelativePath | None = Field(
        None, description="queries.jsonl(.gz); queries without judgements are training texts."
    )
    qrels: RelativePath | None = Field(None, description="Judgements, BEIR or TREC; their queries test the student.")
    sentences: Positive = Field(100_000, description="Maximum number of sentences and titles to sample from documents.")
    documents: Positive = Field(20_000, description="Maximum number of documents searched per evaluation.")
    held_out: Positive = Field(200, description="Texts to hold out for evaluation if there are no judgements.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.qrels is not None and self.queries is None:
            raise ValueError("qrels need queries: name their file, too")
        return self


class VectorOptions(RecipeOptions):
    """Options of recipes that learn the vectors which an encoder makes of texts."""

    data: TextsOptions
    teacher: EncoderOptions = Field(default_factory=EncoderOptions)


V = TypeVar("V", bound=VectorOptions)


class LearningVectors(Training[V], Generic[V]):
    """A recipe that learns the vectors which an encoder makes of texts; a subclass chooses model and loss."""

    def judged(self) -> Iterable[TrainingData]:
        """The judged queries to measure with."""
        return (self._held_out,) if self.options.data.qrels is not None else ()

    def data_steps(self) -> list[str]:
        """Gather the texts and have the teacher encode them, once."""
        if self.folder.stored_array(VECTORS) is not None:
            return []
        texts = self._texts()
        encode_once(self, texts, self.teacher.encode_query, "asking the teacher")
        return [f"the teacher encoded {len(texts):,} texts as queries"]

    def rows(self) -> Any:
        """A row for each text, labelled with the number of its vector."""
        import datasets

        texts = self.learned_texts()
        return datasets.Dataset.from_dict({"query": texts, "label": range(len(texts))})

    def fit(self, model: Any) -> Fitted:
        """Train on the texts, and say what the teacher's own value is."""
        fitted = super().fit(model)
        if (evaluator := self.evaluator()) is not None:
            own = evaluator.of_teacher()[PRIMARY]
            what = "of judged queries" if self.options.data.qrels else f"of finding the teacher's own first {TOP} hits"
            self.remarks.append(f"{PRIMARY} is that {what}; the teacher's is {own:.4f}.")
        return fitted

    def evaluator(self) -> StudentEvaluator | None:
        """The student's queries over the teacher's vectors of documents."""
        documents = self.options.data.documents
        plain = search_evaluator(self._held_out, self.kind, documents=documents, seed=self.options.seed)
        if plain is None:
            return None
        return StudentEvaluator(plain.inner, self.teacher, self._vectors_of(plain.inner.corpus))

    @cached_property
    def teacher(self) -> NamedEncoder:
        """The encoder of the documents."""
        options = {"model": self.options.model, **self.options.teacher.options}
        return Encoders.open(None).with_options(self.options.teacher.adapter, options).required("dense")

    def learned_vectors(self) -> Floats:
        """The teacher's vectors of the texts to learn from, `[n, d]`."""
        vectors = self.folder.stored_array(VECTORS)
        assert vectors is not None, "the data step comes first"
        return vectors

    def learned_texts(self) -> list[str]:
        """The texts to learn from."""
        return [row["text"] for row in self.folder.stored(TEXTS) or []]

    def _texts(self) -> list[str]:
        """Queries to learn from, then sentences and titles of documents, each once."""
        options, held = self.options.data, {self._held_out.queries[name] for name in self._held_out.qrels}
        queries = list(read_queries(options.queries)) if options.queries else []
        pool = [*self._sentences]
        order = np.random.default_rng(self.options.seed).permutation(len(pool))[: options.sentences]
        texts = [*(query.text for query in queries), *(pool[place] for place in sorted(order))]
        learned = [text for text in dict.fromkeys(texts) if text.strip() and text not in held]
        if not learned:
            raise ConfigError("there is no text to learn from", where="data", do="name documents that have text")
        return learned

    @cached_property
    def _documents(self) -> dict[str, Document]:
        return {document.id: document for document in documents_of(self.options.data)}

    @cached_property
    def _sentences(self) -> list[str]:
        """Titles and sentences of all documents, each once."""
        parts = (
            part for document in self._documents.values() for part in (document.title, *sentences_of(document.text))
        )
        return list(dict.fromkeys(part for part in parts if part.strip()))

    @cached_property
    def _held_out(self) -> TrainingData:
        """The judged queries; without any, sentences for which the teacher's own first hits are right."""
        options = self.options.data
        data = TrainingData.read(options, self._documents.values())
        if options.qrels is not None:
            return data
        random, pool = np.random.default_rng(self.options.seed + 1), self._sentences
        drawn = [pool[place] for place in random.permutation(len(pool))[: min(options.held_out, len(pool) // 5)]]
        queries = {f"sentence {n}": text for n, text in enumerate(drawn)}
        names = [name for name, text in data.documents.items() if text][: options.documents]
        asked, kept = self.teacher.encode_query(drawn), self._vectors_of([data.documents[name] for name in names])
        found = _nearest(_stacked(asked), kept)
        qrels = {query: {names[place]: 1 for place in row} for query, row in zip(queries, found, strict=True)}
        return replace(data, queries=queries, qrels=qrels)

    def _vectors_of(self, texts: Sequence[str]) -> Floats:
        """The teacher's vectors of documents, `[n, d]`; each text is encoded once."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        self._encoded.update(zip(missing, self.teacher.encode_document(missing), strict=True))
        return _stacked([self._encoded[text] for text in texts])

    @cached_property
    def _encoded(self) -> dict[str, Any]:
        return {}


class StudentEvaluator(HeldOutEvaluator):
    """The student's queries over the teacher's vectors of the documents.

    Args:
        inner: the search, an evaluator of sentence-transformers for dense models.
        teacher: the encoder of the documents.
        vectors: of the documents that are searched, `[n, d]`.
    """

    def __init__(self, inner: Any, teacher: NamedEncoder, vectors: Floats) -> None:
        super().__init__(inner)
        self._teacher, self.vectors = teacher, vectors

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a student, by measure."""
        return by_metric(self.inner(model, corpus_embeddings=torch.from_numpy(self.vectors)))

    def of_teacher(self) -> dict[str, float]:
        """The values of the teacher's own queries, by measure."""
        asked = SimpleNamespace(  # in the form that evaluators call
            encode_query=lambda texts, **_: torch.from_numpy(_stacked(self._teacher.encode_query(texts))),
            similarity=cos_sim,
            similarity_fn_name="cosine",
            model_card_data=SimpleNamespace(set_evaluation_metrics=lambda *_: None),
        )
        return StudentEvaluator.measured(self, asked)


def _nearest(queries: Floats, documents: Floats) -> list[list[int]]:
    """For each row of `queries` the places of the rows of `documents` with the highest cosine."""
    ours, theirs = (rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9) for rows in (queries, documents))
    return [[int(place) for place in np.argsort(-row, kind="stable")[:TOP]] for row in ours @ theirs.T]


def _stacked(vectors: Sequence[Any] | Floats) -> Floats:
    """Vectors as float32 `[n, d]`."""
    return np.stack([*vectors]).astype(np.float32)


def encode_once(
    training: Training[Any],
    texts: Sequence[str],
    encode: Callable[[Sequence[str]], Sequence[Any] | Floats],
    stage: str,
) -> None:
    """Encode the texts, and store them and their vectors in the training's folder.

    The vectors are stored last, so that a folder that has vectors has their texts.

    Args:
        training: has the folder and the progress.
        texts: without repetitions.
        encode: makes a vector of each text.
        stage: name of the stage of the progress.
    """
    training.watcher.begin(stage, len(texts))
    parts = []
    for at in range(0, len(texts), BATCH):
        parts.append(_stacked(encode(texts[at : at + BATCH])))
        training.watcher.advance(stage, len(parts[-1]))
    training.folder.store(TEXTS, ({"text": text} for text in texts))
    training.folder.store_array(VECTORS, np.concatenate(parts))


class LossOptions(Section):
    """Options of the loss; see `diptych_training.losses.distillation.StudentLoss`."""

    weight: float = Field(0.5, ge=0, description="Weight of the divergence from the teacher's similarities in a batch.")
    tau: AboveZero = Field(0.05, description="Temperature of that divergence.")


class Options(VectorOptions):
    """Options of `student`."""

    loss: LossOptions = Field(default_factory=LossOptions)

    whole: ClassVar[str] = "does not go with a student: leave it out"
    refused: ClassVar[tuple[str, ...]] = ("training.lora",)

    @model_validator(mode="after")
    def _no_layers(self) -> Self:
        if self.training.lora is not None:
            raise ValueError("training.lora is for models with layers, which a student has not: leave it out")
        return self


class Student(LearningVectors[Options]):
    """Trains a dense encoder of queries on another encoder's vectors."""

    name: ClassVar[str] = "student"

    def model(self) -> Any:
        """The student before it is trained: a vector for each token, of which it takes the mean."""
        return static_student(super().model(), self.teacher.encode_query, self.learned_texts())

    def loss(self, model: Any) -> Any:
        """The student's, of the vectors that the teacher made."""
        return StudentLoss(model, torch.from_numpy(self.learned_vectors()), **self.options.loss.model_dump())

    def export(self, model: Any) -> list[Registration]:
        """The student, and for whose index it is."""
        super().export(model)
        fingerprint = self.teacher.fingerprint
        self.folder.write(TEACHER_FILE, {"documents": fingerprint.documents or fingerprint.space})
        return [Registration("static", {"model": str(self.folder.path)}, queries=True)]


def static_student(model: Any, encode: Callable[[Sequence[str]], Sequence[Any]], texts: Iterable[str]) -> Any:
    """A mean of token vectors, of unit length: each token's is what `encode` makes of the token alone.

    Frequent tokens begin shorter, by the smoothed inverse frequency of Arora, Liang, Ma, "A Simple but Tough-to-Beat
    Baseline for Sentence Embeddings", ICLR 2017.

    Args:
        model: whose tokenizer is used.
        encode: the teacher's encoding of queries.
        texts: whose frequencies count.

    Raises:
        ConfigError: the model has no fast tokenizer.
    """
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        got = type(model.tokenizer).__name__
        raise ConfigError(
            "a static student needs a fast tokenizer", where="model", got=got, do="take a model that has one"
        )
    tokens = [tokenizer.decode([number]) or " " for number in range(tokenizer.get_vocab_size())]
    rows = np.stack([np.asarray(vector, np.float32) for vector in encode(tokens)])
    # A weight for each token, float32 `[size]`.
    read = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    counts = Counter(number for own in read for number in own.ids)
    shares = np.array([counts[number] for number in range(len(tokens))], np.float32) / max(1, counts.total())
    rows = rows * np.asarray(COMMON / (COMMON + shares), np.float32)[:, None]
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=rows), Normalize()], device="cpu")
