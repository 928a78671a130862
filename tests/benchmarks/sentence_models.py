"""Models of sentence-transformers over the words of a harness's world, trained in a plain loop with any loss.

For effects of methods that need the library's modules; `effects/tiny.py` is for losses by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from effects.tiny import saved, warmed_up
from effects.world import World

Batch = tuple[Sequence[Tensor], Tensor | None]  # tokens of each column, labels


def model_of(world: World, *, seed: int, layers: int = 2, width: int = 64) -> Any:
    """A tiny BERT of random weights, mean pooled, of unit length."""
    with TemporaryDirectory() as folder:
        return model_in(saved(world, Path(folder), seed=seed, layers=layers, width=width))


def model_in(folder: Path) -> Any:
    """The transformer of a folder, mean pooled, of unit length, without dropout."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    transformer = Transformer(str(folder), config_kwargs=none)
    pooling = Pooling(transformer.get_embedding_dimension())
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")


def features_of(tokens: Tensor) -> dict[str, Tensor]:
    """What models read of tokens, int64 `[n, t]` with 0 where there is none."""
    longest = int((tokens > 0).sum(1).max())
    return {"input_ids": tokens[:, :longest], "attention_mask": (tokens[:, :longest] > 0).long()}


def fitted(
    loss: torch.nn.Module, batches: Sequence[Batch], *, rate: float = 1e-3, half: bool = False, clip: float = 1.0
) -> None:
    """Train what the loss trains: Adam, warmed up over a tenth of the steps, then falling to 0.

    Args:
        loss: of this package, with its model.
        batches: one a step.
        rate: of learning.
        half: run the model in bfloat16 where torch does.
        clip: the greatest norm of a gradient.
    """
    loss.train()
    parts = [own for own in loss.parameters() if own.requires_grad]
    adam = torch.optim.AdamW(parts, lr=rate, weight_decay=0.0)
    steps = len(batches)
    plan = warmed_up(adam, steps)
    for columns, labels in batches:
        adam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            total(loss(list(map(features_of, columns)), labels)).backward()
        torch.nn.utils.clip_grad_norm_(parts, clip)
        adam.step()
        plan.step()
    loss.eval()


def total(value: Tensor | dict[str, Tensor]) -> Tensor:
    """The sum of a loss's parts."""
    return torch.stack(list(value.values())).sum() if isinstance(value, dict) else value


@torch.no_grad()
def embedded(model: Any, tokens: Tensor, feature: str = "sentence_embedding", batch: int = 256) -> Any:
    """A feature of texts, float32 `[n, ...]`; a list of them where the feature is one."""
    model.eval()
    parts: list[Any] = [model(features_of(own))[feature] for own in torch.split(tokens, batch)]
    if isinstance(parts[0], list):
        return [torch.cat([part[place] for part in parts]) for place in range(len(parts[0]))]
    return torch.cat(parts)


def cosines(left: Tensor, right: Tensor) -> Any:
    """Cosines float64 `[n, m]`."""
    a, b = (torch.nn.functional.normalize(part.double(), dim=1) for part in (left, right))
    return (a @ b.T).numpy()


def pairs(world: World, places: Iterable[Tensor], rows: Tensor) -> list[Batch]:
    """Batches of rows `(query, document, ...)` by their places, with the rows as ids."""
    found: list[Batch] = []
    for own in (rows[place] for place in places):
        documents = [world.document_tokens[own[:, column]] for column in range(1, own.shape[1])]
        found.append(([world.query_tokens[own[:, 0]], *documents], own))
    return found
