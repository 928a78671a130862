"""Encoders of a few layers over forty words, made in the test: BERT, and ModernBERT, which has a final norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = [f"word{n}" for n in range(40)]
WIDTH = 32


def saved_bert(folder: Path, *, layers: int = 3, kind: str = "bert") -> Path:
    """A folder of transformers with random weights."""
    from transformers import BertConfig, BertModel, BertTokenizer, ModernBertConfig, ModernBertModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": WIDTH,
        "max_position_embeddings": 64,
        "vocab_size": len(WORDS) + 5,
    }
    if kind == "bert":
        model: Any = BertModel(BertConfig(**shape))
    else:
        special: dict[str, Any] = {
            "pad_token_id": 0,
            "bos_token_id": 2,
            "cls_token_id": 2,
            "eos_token_id": 3,
            "sep_token_id": 3,
        }
        model = ModernBertModel(ModernBertConfig(**shape, **special))
    model.save_pretrained(folder)
    BertTokenizer(str(vocabulary)).save_pretrained(folder)
    return folder


def tiny_encoder(folder: Path, *, layers: int = 3, kind: str = "bert", normalize: bool = True) -> Any:
    """A dense encoder of it: mean of the tokens, of unit length unless told otherwise."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    parts: list[Any] = [Transformer(str(saved_bert(folder, layers=layers, kind=kind))), Pooling(WIDTH)]
    model = SentenceTransformer(modules=[*parts, *([Normalize()] if normalize else [])], device="cpu")
    return model.eval()


def features_of(model: Any, *texts: str) -> dict[str, Any]:
    """The features of texts, tokenised."""
    found: dict[str, Any] = model.preprocess(list(texts))
    return found
