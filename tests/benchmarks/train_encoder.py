"""A real encoder: all-MiniLM-L6-v2 trained on SciFact, judged on SciFact's test queries and on three other collections.

    python tests/benchmarks/train_encoder.py --seeds 1 2 3 --share 0.25        # wants DIPTYCH_DATA

The recipe is `contrastive` on the 919 judged pairs of the training split, each with a negative that the model itself
finds; `--unsupervised` first trains without judgements: the title and the last sentence of each abstract, cut out of
it, ask for what is left. `--share` of the untrained weights is kept. With several seeds the mean of
their weights is judged as well (a soup: Wortsman et al., ICML 2022).

Test queries choose nothing. Prints and writes (`--json`) nDCG@10 of each seed, before and after each stage, with the
paired interval of the difference to the untrained model over the queries, and the minutes of each stage.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from corpora import folder_of
from diptych import Registry, Run
from diptych.evaluate import Evaluation, compare, evaluate, read_beir
from diptych.training import TrainReport, load_recipe, read_documents
from machine import facts
from soups import mixed

COLLECTIONS = ("scifact", "med", "cisi", "cranfield")
MODEL = "all-MiniLM-L6-v2"
METRIC = "nDCG@10"
TRAINING = {"batch_size": 48, "learning_rate": 5e-5, "max_length": 256, "precision": "bfloat16", "epochs": 1}


class Silent:
    """A watcher who prints sentences alone."""

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, n: int) -> None:
        """Nothing."""

    def say(self, sentence: str) -> None:
        """Print it."""
        print(f"  {sentence}", flush=True)


def unsupervised(folder: Path, output: Path, seed: int) -> dict[str, Any]:
    """The first recipe."""
    written = {"documents": 100_000, "density": 2, "styles": ["title", "last"]}
    return {
        "recipe": "contrastive",
        "model": MODEL,
        "output": str(output),
        "seed": seed,
        "data": {"corpus": str(folder / "corpus.jsonl.gz"), "synthetic": written, "dev": {"share": 0}},
        "negatives": {"per_query": 0},
        "loss": {"tau": 0.05, "symmetric": True},
        "training": TRAINING,
    }


def supervised(folder: Path, model: str, output: Path, seed: int, share: float) -> dict[str, Any]:
    """The second recipe."""
    return {
        "recipe": "contrastive",
        "model": model,
        "output": str(output),
        "seed": seed,
        "data": {
            "corpus": str(folder / "corpus.jsonl.gz"),
            "queries": str(folder / "queries.jsonl.gz"),
            "qrels": str(folder / "qrels/train.tsv"),
            "dev": {"share": 0},
        },
        "negatives": {"per_query": 1, "last_rank": 30, "relative": 0.95},
        "loss": {"tau": 0.05},
        "training": {**TRAINING, "batch_size": 32, "learning_rate": 5e-5, "epochs": 3, "untrained_share": share},
    }


def trained(recipe: Mapping[str, Any]) -> TrainReport:
    """What a recipe did."""
    return load_recipe(recipe, Registry.default()).make(Silent()).train()


def judged(model: str, length: int) -> dict[str, Evaluation]:
    """nDCG@10 of a model on each collection, exact search, bfloat16."""
    from sentence_transformers import SentenceTransformer

    from diptych_adapters.models import resolve

    encoder = SentenceTransformer(str(resolve(model).path), device="cpu")
    encoder.max_seq_length = length
    return {name: _judged(encoder, folder_of(name), model) for name in COLLECTIONS}


def _judged(encoder: Any, folder: Path, name: str) -> Evaluation:
    queries, qrels = read_beir(folder)
    documents = {d.id: f"{d.title} {d.text}".strip() for d in read_documents(folder)}
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        held = encoder.encode_document(list(documents.values()), convert_to_tensor=True, show_progress_bar=False)
        asked = encoder.encode_query([q.text for q in queries], convert_to_tensor=True, show_progress_bar=False)
    found = (asked.float() @ held.float().T).topk(100, dim=1)
    ids = list(documents)
    rankings = {
        str(query.id): [(ids[place], score) for place, score in zip(places, scores, strict=True)]
        for query, places, scores in zip(queries, found.indices.tolist(), found.values.tolist(), strict=True)
    }
    return evaluate(Run(name, rankings), qrels, [METRIC])


def compared(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """The two values, their difference and its paired interval."""
    found = compare([before, after], before.name, METRIC).differences[0]
    values = {"before": before.means[METRIC], "after": after.means[METRIC]}
    return {**values, "difference": found.mean, "interval": [found.low, found.high]}


def main() -> None:
    """Train and judge each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--share", type=float, default=0.0, help="of the untrained weights in the last model")
    parser.add_argument("--unsupervised", action="store_true", help="begin with the recipe without judgements")
    parser.add_argument("--runs", type=Path, default=Path("runs/scifact"))
    parser.add_argument("--length", type=int, default=256, help="tokens of a text when judged")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder, untrained, rows = folder_of("scifact"), judged(MODEL, given.length), []
    for seed in given.seeds:
        rows += one_seed(folder, given.runs / str(seed), seed, given, untrained)
        keep(rows, given.json)
    if len(given.seeds) > 1:
        rows.append(soup([given.runs / str(seed) / "supervised" for seed in given.seeds], given, untrained))
        keep(rows, given.json)


def keep(rows: Sequence[Mapping[str, Any]], file: Path | None) -> None:
    """Write what is known so far."""
    if file:
        file.write_text(json.dumps({"machine": facts(), "rows": rows}, indent=1) + "\n")


def soup(models: Sequence[Path], given: argparse.Namespace, untrained: Mapping[str, Evaluation]) -> dict[str, Any]:
    """The mean of the models' weights, judged."""
    from sentence_transformers import SentenceTransformer

    mean = mixed([SentenceTransformer(str(model), device="cpu") for model in models])
    mean.save_pretrained(str(given.runs / "soup"), create_model_card=False)
    found = judged(str(given.runs / "soup"), given.length)
    row = {"stage": "mean of the seeds", **{name: compared(untrained[name], found[name]) for name in COLLECTIONS}}
    print(json.dumps(row), flush=True)
    return row


def one_seed(
    folder: Path, runs: Path, seed: int, given: argparse.Namespace, untrained: Mapping[str, Evaluation]
) -> list[dict[str, Any]]:
    """The stages of a seed, each judged."""
    first, second = runs.absolute() / "unsupervised", runs.absolute() / "supervised"
    recipes = {"with judgements": supervised(folder, MODEL, second, seed, given.share)}
    if given.unsupervised:
        begun = {"without judgements": unsupervised(folder, first, seed)}
        recipes = {**begun, "with judgements": supervised(folder, str(first), second, seed, given.share)}
    rows = []
    for stage, recipe in recipes.items():
        started = time.monotonic()
        report = trained(recipe)
        minutes = (time.monotonic() - started) / 60
        found = judged(report.folder, given.length)
        row = {name: compared(untrained[name], found[name]) for name in COLLECTIONS}
        rows.append({"seed": seed, "stage": stage, "minutes": round(minutes, 1), **row})
        print(json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    main()
