"""A masked language model small enough to be trained in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = [f"word{n}" for n in range(60)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tiny_masked_model(folder: Path, *, seed: int = 0, width: int = 32, spread: float = 0.5) -> Path:
    """A folder with a BERT of one layer over sixty words, its weights drawn with this deviation, and its tokenizer."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]))
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": width}
    shape |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=65, hidden_size=width, max_position_embeddings=32, initializer_range=spread, **shape)
    BertForMaskedLM(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    return folder
