"""A tiny world and options for every built-in recipe, so that one test can ask the same of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diptych_adapters.hooks
import diptych_experimental.hooks
import diptych_training.hooks
from diptych import Registry
from diptych.training import load_recipe
from tiny_encoders import WORDS, tiny_encoder
from tiny_models import bert
from tiny_training import lines

REGISTRY = Registry(diptych_adapters.hooks, diptych_training.hooks, diptych_experimental.hooks, installed=False)
OF_MEDIA = ("image_text", "sound_text", "video_text", "pretrain")  # see test_media_text_recipes.py
RECIPES = [spec.name for spec in REGISTRY.recipes.sorted() if spec.name not in OF_MEDIA]
OF_EPOCHS = ("epochs", "evaluate_every")  # which ar2 has not
TRAINING = {"epochs": 4, "batch_size": 6, "learning_rate": 5e-3, "device": "cpu", "evaluate_every": 3}
COUNT = 24  # documents and queries
MASKED = ("splade", "cross_encoder", "uni_encoder")  # start from a masked language model
CLASSES = ["even words", "odd words"]


def write_world(folder: Path) -> None:
    """Models, documents of three words, a query of one for each, judgements, a teacher's scores."""
    tiny_encoder(folder / "bert", layers=2).save_pretrained(str(folder / "dense"), create_model_card=False)
    bert(folder / "masked", seed=1)
    lines(folder / "corpus.jsonl", [{"_id": f"d{n}", "text": " ".join(WORDS[n : n + 3])} for n in range(COUNT)])
    lines(folder / "classes.jsonl", [{"_id": f"c{n}", "text": text} for n, text in enumerate(CLASSES)])
    lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": WORDS[n]} for n in range(COUNT)])
    scores = [{f"d{m}": 4.0 if m == n else -abs(m - n) / 4 for m in range(COUNT)} for n in range(COUNT)]
    lines(folder / "scores.jsonl", [{"query": f"q{n}", "scores": own} for n, own in enumerate(scores)])
    for name, kind, count in (("qrels", "d", COUNT), ("classes", "c", len(CLASSES))):
        rows = "".join(f"q{n}\t{kind}{n % count}\t1\n" for n in range(COUNT))
        (folder / f"{name}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}", encoding="utf-8")


def options_of(recipe: str, folder: Path, output: Path, **training: Any) -> dict[str, Any]:
    """What the recipe's file would say, with `training` changed."""
    given: dict[str, Any] = {
        "recipe": recipe,
        "model": str(folder / ("masked" if recipe in MASKED else "dense")),
        "output": str(output),
        "data": _data(recipe, folder),
        **_sections(recipe, folder),
    }
    known = {name: value for name, value in TRAINING.items() if recipe != "ar2" or name not in OF_EPOCHS}
    known |= {"max_length": 32} if recipe == "uni_encoder" else {}  # the model's positions
    return {**given, "training": {**known, **training}}


def made(options: dict[str, Any], watcher: Any) -> Any:
    """The recipe, ready to be trained."""
    return load_recipe(options, REGISTRY).make(watcher)


def _data(recipe: str, folder: Path) -> dict[str, Any]:
    corpus = {"corpus": str(folder / "corpus.jsonl")}
    judged = {**corpus, "queries": str(folder / "queries.jsonl"), "qrels": str(folder / "qrels.tsv")}
    if recipe == "prototype_tuning":
        judged |= {"corpus": str(folder / "classes.jsonl"), "qrels": str(folder / "classes.tsv")}
    return judged if recipe in ("cmim", "elastic", "student") else {**judged, "dev": {"share": 0.25}}


def _sections(recipe: str, folder: Path) -> dict[str, Any]:
    taught = {"teacher": {"scores": str(folder / "scores.jsonl")}, "negatives": {"per_query": 2, "relative": None}}
    pool = {"size": 12, "num_pos": 1, "num_neg": 2, "refresh_every": 2}
    steps = {"warm_steps": 3, "warm_ranker_steps": 2, "ranker_steps": 2, "retriever_steps": 3}
    game = {"rounds": 2, **steps, "check": False}  # two steps make no ranker
    own: dict[str, dict[str, Any]] = {
        "ar2": {"game": game, "ranker": str(folder / "masked"), "negatives": {"per_query": 4}},
        "cmim": {"information": {"heads": 2}},
        "cprd": {**taught, "negatives": {"per_query": 2, "relative": None, "refresh_every": 1}},
        "distill": taught,
        "cross_encoder": {
            "retriever": str(folder / "dense"),
            "negatives": {"per_query": 3, "last_rank": 10},
            "candidates": 10,
        },
        "uni_encoder": {
            "retriever": str(folder / "dense"),
            "negatives": {"per_query": 3, "last_rank": 10},
            "candidates": 10,
        },
        "dexml": {"pool": pool},
        "multi_exit": {"exits": {"layers": [1, 2]}},
        "elastic": {"elastic": {"layers": [1, 2], "widths": [8]}},
        "unidec": {"pool": pool},
    }
    return own.get(recipe, {})
