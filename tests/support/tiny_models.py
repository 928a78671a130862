"""Tiny real models over forty words, for trainings in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = [f"word{n}" for n in range(40)]


def bert(folder: Path, *, seed: int = 0) -> Path:
    """A folder with a random BertForMaskedLM of one layer and its tokenizer."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=45, hidden_size=32, max_position_embeddings=32, **shape)).save_pretrained(
        folder
    )
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def cross_encoder(folder: Path, *, seed: int = 0) -> Any:
    """An untrained cross-encoder with one label whose scores are plain numbers."""
    from sentence_transformers import CrossEncoder

    made = str(bert(folder, seed=seed))
    return CrossEncoder(made, num_labels=1, max_length=32, device="cpu", activation_fn=torch.nn.Identity())


def encoder(folder: Path, *, seed: int = 0) -> Any:
    """An untrained dense encoder: the mean of the token vectors."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(bert(folder, seed=seed)), device="cpu")
