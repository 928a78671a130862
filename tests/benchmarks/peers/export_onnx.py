"""Writes a transformer as model.onnx with its tokenizer: `python export_onnx.py MODEL_FOLDER NEW_FOLDER TOKENS`.

Runs in the environment of sentence-transformers, for FastEmbed to have the same weights. Token ids and masks go in,
the token vectors come out. TOKENS is how many are read of a text, which FastEmbed takes from tokenizer_config.json.
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class TokenVectors(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> Any:
        return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state


def export(model: Path, into: Path, tokens: int) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(model / file, into / file)
    config = json.loads((into / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["model_max_length"] = tokens
    (into / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    ids = torch.ones(2, 8, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of itself
        torch.onnx.export(
            TokenVectors(AutoModel.from_pretrained(model, attn_implementation="eager").eval()),
            (ids, ids, torch.zeros_like(ids)),
            into / "unfinished.onnx",
            input_names=list(INPUTS),
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in (*INPUTS, "last_hidden_state")},
            opset_version=17,
            dynamo=False,
        )
    (into / "unfinished.onnx").replace(into / "model.onnx")


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
