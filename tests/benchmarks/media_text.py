"""Trains the recipes `sound_text` and `video_text`, and searches by what they made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compare_students import Quiet
from diptych import Registry
from diptych.media import Content
from diptych.training import load_recipe
from diptych.types import Floats, SparseVector
from diptych_adapters.media_text.encoders import MediaLexiconEncoder, MediaTextEncoder
from effects.running import query_interval, student_interval

MODEL = "all-MiniLM-L6-v2"
Values = NDArray[np.float64]
TRAINING: dict[str, Any] = {
    "batch_size": 64,
    "learning_rate": 3e-3,
    "schedule": "cosine",
    "precision": "bfloat16",
    "device": "cpu",
}
DENSE, WORDS, SIDE = "dense", "lexicon, plain words", "lexicon, its text side"


def train(of: str, run: Path, rows: Iterable[Mapping[str, Any]], options: Mapping[str, Any]) -> Path:
    """The folder of a model of the recipe `OF_text`, trained unless it is there. Files lie in the folder's parent."""
    items = run.with_name(f"{run.name}.jsonl")
    items.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    recipe = {
        "recipe": f"{of}_text",
        "model": MODEL,
        "output": str(run),
        "data": {"items": str(items), "share": 0},
        **options,
    }
    report = load_recipe(recipe, Registry.default()).make(Quiet()).train()
    print(f"{run.name}: {report.steps} steps, {report.seconds:.0f} s", flush=True)
    return run


def scores_of(of: str, run: Path, contents: Sequence[Content], texts: Sequence[str]) -> dict[str, Floats]:
    """Scores `[texts, contents]` by each way of serving the model."""
    dense = MediaTextEncoder(of, model=str(run), device="cpu")
    found = {DENSE: dense.encode_query(texts) @ dense.encode_document(contents).T}
    for name, queries in ((WORDS, "words"), (SIDE, "encoder")):
        lexicon = MediaLexiconEncoder(of, model=str(run), device="cpu", queries=queries)
        asked, stored = lexicon.encode_query(texts), lexicon.encode_document(contents)
        found[name] = dense_rows(asked, lexicon.dimension) @ dense_rows(stored, lexicon.dimension).T
    return found


def dense_rows(vectors: Sequence[SparseVector], dimension: int) -> Floats:
    """Sparse vectors as rows, float32 `[n, dimension]`."""
    rows = np.zeros((len(vectors), dimension), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        row[vector.indices] = vector.values
    return rows


def measures(scores: Floats, relevant: NDArray[np.bool_]) -> dict[str, Values]:
    """AP, R@1 and R@10 of each query with a relevant item; ties count as lost. R@k: one among the first k."""
    kept = relevant.any(axis=1)
    scores, relevant = scores[kept], relevant[kept]
    order = np.argsort(-np.where(relevant, np.nextafter(scores, -np.inf), scores), axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order, 1)
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    return {
        "AP": (precision * hits).sum(1) / hits.sum(1),
        "R@1": hits[:, :1].any(1).astype(np.float64),
        "R@10": hits[:, :10].any(1).astype(np.float64),
    }


def told(name: str, seeds: Sequence[Values]) -> list[float]:
    """Print and return the mean over the seeds, Student's interval over them, and that over the queries of all."""
    means = np.array([own.mean() for own in seeds])
    over_seeds = student_interval(means) if len(means) > 1 else (float("nan"),) * 2
    paired = len({len(own) for own in seeds}) == 1
    over_queries = query_interval(np.mean(seeds, axis=0) if paired else np.concatenate(seeds))
    values = [float(means.mean()), *over_seeds, *over_queries]
    print(f"{name}: " + "{:.3f} [{:.3f}, {:.3f}] over seeds, [{:.3f}, {:.3f}] over queries".format(*values), flush=True)
    return values
