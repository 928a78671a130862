"""A cross-encoder started from all-MiniLM-L6-v2, trained on SciFact, over the BM25 + MiniLM hybrid: does it help?

    python tests/benchmarks/train_reranker.py "$DIPTYCH_DATA/scifact" --work /tmp/reranker --seeds 0 1 2

First a warm-up on pairs that the corpus itself gives (a sentence asks for its document, a title for its text), then the
training queries but for a dev split, each with its relevant document and negatives drawn of the hybrid's best.
How many candidates are reranked, and how the reranker's score is weighed against the first stage's, is chosen on the
dev split; the test queries are looked at once, at the end. With several seeds the mean of their
weights is judged as well. Whatever is in the work folder is not made again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.evaluate import Evaluation, Qrels, compare, evaluate, read_beir
from diptych.types import Query, Run
from diptych_adapters.models import resolve
from diptych_training.recipes.negatives import RELEVANT
from reranker_data import Hybrid, Row, mined, sentences_as_queries, titles_as_queries
from soups import mixed

DEV, WEIGHTS = 160, tuple(n / 10 for n in range(11))
METRIC = "nDCG@10"


class Experiment:
    """The data of one collection, its first stage, and the folder in which everything made is kept."""

    def __init__(self, folder: Path, work: Path, options: argparse.Namespace) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.work, self.options, self.parts = work, options, read_corpus(folder)
        self.texts = {name: f"{title} {text}".strip() for name, (title, text) in self.parts.items()}
        self.hybrid = Hybrid(self.texts, work / "vectors.npy")
        queries, self.judged = read_beir(folder, split="train")
        order = np.random.default_rng(0).permutation(len(queries))
        self.dev, self.train = ([queries[n] for n in part] for part in (order[:DEV], order[DEV:]))
        self.test, self.test_judged = read_beir(folder, split="test")

    def warm(self) -> Path:
        """The model after the warm-up."""
        given, random = self.options, np.random.default_rng(0)
        asked = sentences_as_queries(self.parts, given.sentences, random)
        titled = titles_as_queries(self.parts, given.titles, random)
        bare = {name: text for name, (_, text) in self.parts.items()}
        rows = self._mined(asked, self.texts, given.warm_negatives, random)
        rows += self._mined(titled, bare, given.warm_negatives, random)
        rows = [rows[n] for n in random.permutation(len(rows))]
        start = resolve("all-MiniLM-L6-v2").path
        return self._made("warm", start, rows, rate=given.warm_rate, length=given.warm_length, seed=0)

    def tuned(self, start: Path, seed: int) -> Path:
        """The warm model, trained on the training queries."""
        given, random, rows = self.options, np.random.default_rng(seed), []
        pairs = [(q.text, d) for q in self.train for d in sorted(self.judged.relevant(q.id))]
        known = [tuple(self.judged.relevant(q.id)) for q in self.train for _ in self.judged.relevant(q.id)]
        asked = [(query, self.texts[name], own) for (query, name), own in zip(pairs, known, strict=True)]
        for _ in range(given.epochs):
            drawn = self._mined(asked, self.texts, given.negatives, random)
            rows += [drawn[n] for n in random.permutation(len(drawn))]
        return self._made(f"tuned-{seed}", start, rows, rate=given.rate, length=given.length, seed=seed)

    def soup(self, seeds: Sequence[int]) -> Path:
        """The mean of the weights of the seeds' models."""
        from sentence_transformers import CrossEncoder

        folder = self.work / ("soup-" + "-".join(map(str, seeds)))
        if not (folder / "config.json").is_file():
            own = [CrossEncoder(str(self.work / f"tuned-{seed}"), device="cpu") for seed in seeds]
            mixed(own).save_pretrained(str(folder))
        return folder

    def scored(
        self, model: Path, name: str, queries: Sequence[Query], depth: int
    ) -> list[dict[str, tuple[float, float]]]:
        """For each query `{document: (first stage's score, reranker's score)}` of its best `depth`."""
        found = self.hybrid.candidates([query.text for query in queries])
        tops = [dict(list(own.items())[:depth]) for own in found]
        kept = self.work / f"{model.name}-{name}-{depth}.npy"
        if not kept.is_file():
            pairs = [(query.text, self.texts[d]) for query, own in zip(queries, tops, strict=True) for d in own]
            np.save(kept, score(model, pairs, self.options.length))
        values = iter(np.load(kept).tolist())
        return [{document: (first, next(values)) for document, first in own.items()} for own in tops]

    def first(self, queries: Sequence[Query]) -> dict[str, list[tuple[str, float]]]:
        """The hybrid's rankings."""
        found = self.hybrid.candidates([query.text for query in queries])
        return {query.id: list(own.items()) for query, own in zip(queries, found, strict=True)}

    def _mined(self, asked: Any, texts: Mapping[str, str], negatives: int, random: np.random.Generator) -> list[Row]:
        found = self.hybrid.candidates([query for query, _, _ in asked]) if asked else []
        return list(mined(asked, found, texts, negatives=negatives, among=self.options.among, random=random))

    def _made(self, name: str, start: Path, rows: Sequence[Row], *, rate: float, length: int, seed: int) -> Path:
        folder = self.work / name
        if not (folder / "config.json").is_file():
            began = time.process_time()
            train(start, rows, folder, rate=rate, length=length, batch=self.options.batch, seed=seed)
            seconds, pairs = time.process_time() - began, sum(len(row.documents) for row in rows)
            print(f"{name}: {pairs:,} pairs, {seconds:.0f} s of processor, {pairs / seconds:.1f} pairs/s", flush=True)
        return folder


def train(start: Path, rows: Sequence[Row], folder: Path, *, rate: float, length: int, batch: int, seed: int) -> None:
    """Train from the model in `start` on the rows once, in their order, and save it in `folder`."""
    from datasets import Dataset
    from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    torch.manual_seed(seed)
    model = CrossEncoder(
        str(start),
        num_labels=1,
        max_length=length,
        device="cpu",
        activation_fn=torch.nn.Identity(),
        config_kwargs={"attention_probs_dropout_prob": 0.0},  # with it, training takes twice the time on a CPU
    )
    labels = [[RELEVANT] + [0.0] * (len(row.documents) - 1) for row in rows]
    columns = {"query": [row.query for row in rows], "documents": [list(row.documents) for row in rows]}
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder.with_suffix(".log")),
        per_device_train_batch_size=batch,
        num_train_epochs=1,
        learning_rate=rate,
        warmup_steps=len(rows) // batch // 10,
        weight_decay=0.01,
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        logging_steps=20,
        seed=seed,
        disable_tqdm=True,
    )
    data = Dataset.from_dict({**columns, "label": labels})
    CrossEncoderTrainer(
        model=model, args=arguments, train_dataset=data, loss=ListNetLoss(model, mini_batch_size=-1)
    ).train()
    model.save_pretrained(str(folder))


def score(folder: Path, pairs: Sequence[tuple[str, str]], length: int) -> NDArray[np.float32]:
    """The reranker's scores `[n]`."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), max_length=length, device="cpu")
    began = time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        found = model.predict(list(pairs), batch_size=32, show_progress_bar=False, convert_to_tensor=True)
    print(f"{folder.name}: {len(pairs) / (time.process_time() - began):.1f} pairs/s scored", flush=True)
    return np.asarray(found.float().numpy(), np.float32)


def fused(own: Mapping[str, tuple[float, float]], rest: Sequence[tuple[str, float]], depth: int, weight: float) -> Any:
    """The first `depth` by `weight` reranker + `1 - weight` first stage, each from 0 to 1; then the rest."""
    names = list(own)[:depth]
    first, again = (_unit(np.array([own[name][side] for name in names])) for side in (0, 1))
    values = weight * again + (1 - weight) * first
    order = np.argsort(-values, kind="stable")
    return [(names[n], 1 + float(values[n])) for n in order] + [(name, s) for name, s in rest if name not in names]


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)


def measured(
    experiment: Experiment, queries: Sequence[Query], qrels: Qrels, scores: Any, depth: int, weight: float, name: str
) -> Evaluation:
    """nDCG@10 of one way to rerank."""
    rankings = {
        query.id: fused(own, rest, depth, weight)
        for query, own, rest in zip(queries, scores, experiment.first(queries).values(), strict=True)
    }
    return evaluate(Run(name, rankings), qrels.restricted(query.id for query in queries), [METRIC])


def judged(experiment: Experiment, model: Path) -> dict[str, Any]:
    """Choose on dev, look at the test queries."""
    known = experiment.scored(model, "dev", experiment.dev, max(experiment.options.depths))
    found = {
        (depth, weight): measured(experiment, experiment.dev, experiment.judged, known, depth, weight, "").means[METRIC]
        for depth, weight in product(experiment.options.depths, WEIGHTS)
    }
    depth, weight = max(found, key=lambda key: found[key])
    table = {f"{d}/{w}": round(value, 4) for (d, w), value in found.items() if w in (0.0, weight, 1.0)}
    scores = experiment.scored(model, "test", experiment.test, depth)
    asked = (experiment, experiment.test, experiment.test_judged, scores, depth)
    ways = {"hybrid": 0.0, "interpolated": weight, "reranker alone": 1.0}
    runs = [measured(*asked, w, name) for name, w in ways.items()]
    differences = compare(runs, "hybrid", METRIC).differences
    tests = {d.name: [round(v, 4) for v in (d.mean, d.low, d.high, d.p_value)] for d in differences}
    means = {run.name: round(run.means[METRIC], 4) for run in runs}
    return {
        "model": model.name,
        "candidates": depth,
        "weight": weight,
        "dev": table,
        "test": means,
        "difference": tests,
    }


def read_corpus(folder: Path) -> dict[str, tuple[str, str]]:
    """(title, text) of each document by id."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return {row["_id"]: (row.get("title") or "", row["text"]) for row in rows}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sentences", type=int, default=2000, help="sentences that ask for their document")
    parser.add_argument("--titles", type=int, default=500, help="titles that ask for their text")
    parser.add_argument("--warm-negatives", type=int, default=3)
    parser.add_argument("--warm-rate", type=float, default=1e-4)
    parser.add_argument("--warm-length", type=int, default=160)
    parser.add_argument("--negatives", type=int, default=3)
    parser.add_argument("--among", type=int, default=30, help="of how many best candidates negatives are drawn")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--depths", type=int, nargs="+", default=[10, 20], help="how many candidates to try on dev")
    parser.add_argument("--batch", type=int, default=8, help="queries of a step")
    return parser.parse_args()


if __name__ == "__main__":
    options = parsed()
    whole = Experiment(options.folder, options.work, options)
    warmed = whole.warm()
    for number in options.seeds:
        print(json.dumps(judged(whole, whole.tuned(warmed, number))), flush=True)
    if len(options.seeds) > 1:
        print(json.dumps(judged(whole, whole.soup(options.seeds))), flush=True)
