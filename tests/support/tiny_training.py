"""A small corpus of made-up words, queries with judgements, and a tiny BERT over these words, as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WORDS = [f"word{n}" for n in range(60)]
MORE = ["must", "not", "mention", "what", "is"]


class Told:
    """A watcher that keeps the sentences and counts the steps."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.done = 0

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, n: int) -> None:
        """Count them."""
        self.done += n

    def say(self, sentence: str) -> None:
        """Keep it."""
        self.sentences.append(sentence)


class Stopping(Told):
    """A watcher that stops a training at a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def advance(self, stage: str, n: int) -> None:
        """Raise at the step; other stages are not counted."""
        self.done += n if stage == "training" else 0
        if self.done >= self.step:
            raise InterruptedError("stopped by the test")


def corpus(count: int = 60) -> list[dict[str, str]]:
    """Documents of six words, the first of which few others have."""
    random = np.random.default_rng(3)
    return [
        {"_id": f"d{n}", "text": " ".join([WORDS[n % 30], *random.choice(WORDS[30:], 5, replace=False)])}
        for n in range(count)
    ]


def write(folder: Path) -> list[dict[str, str]]:
    """`corpus.jsonl`, `queries.jsonl`, `train.tsv` and `gate.tsv`: two words of a document find it; the documents."""
    documents = corpus()
    queries = [{"_id": f"q{n}", "text": " ".join(own["text"].split()[:2])} for n, own in enumerate(documents)]
    lines(folder / "corpus.jsonl", documents)
    lines(folder / "queries.jsonl", queries)
    for name, places in (("train", range(0, 45)), ("gate", range(45, 60))):
        rows = ["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in places)]
        (folder / f"{name}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return documents


def lines(path: Path, rows: Sequence[Any]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def tiny_bert(folder: Path, *, seed: int = 0) -> Path:
    """A sentence-transformers model of one layer, 32 wide, with random weights."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel, BertTokenizer

    inner = folder / "bert"
    inner.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *MORE]
    (inner / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **shape)).save_pretrained(inner)
    BertTokenizer(str(inner / "vocab.txt"), model_max_length=32).save_pretrained(inner)
    SentenceTransformer(str(inner), device="cpu").save_pretrained(str(folder / "model"))  # with mean pooling
    return folder / "model"
