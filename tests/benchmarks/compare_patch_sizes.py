"""Vision transformers that read patches of one size, and of two (CrossViT): pictures found by name.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_patch_sizes.py --out build/image_text

Each network learns the vectors of names and keywords by the loss of recipe `image_text`, without a lexicon, from
Twemoji's pictures of 90 % of the emoji, drawn by the seed. Noto's pictures of all 1,906 are searched by their names.
All see equally many pictures, are of about the same size, and are read by class tokens. `crossed` has a transformer for
each patch size; after each stage, the class token of one attends to the patches of the other. `joined` is one
transformer over the patches of both sizes. Rates were not tuned. Intervals are of differences from the first network,
over the seeds (Student's) and over the names, 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arms import print_differences
from compare_bridges import pictures_of
from compare_image_text import HELD, learned, unpacked
from diptych import Registry
from diptych.types import Floats
from diptych_adapters.media_text.network import MediaTextNetwork, Picture, TowerShape, normalized
from diptych_training.data.media_items import Items, read_items
from diptych_training.recipes.media_text import MediaTextLoss
from effects.running import FEW, above
from media_text import MODEL, Values, measures

SIZE, FINE, COARSE, DIMENSION = 48, 8, 16, 384  # pixels of a picture and of patches; numbers of MiniLM's vectors
BATCH, RATE, DECAY, WARMUP = 64, 1e-3, 0.05, 0.1


def blocks(width: int, count: int) -> nn.Sequential:
    """Layers of a transformer."""
    layers = (
        nn.TransformerEncoderLayer(width, 2, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        for _ in range(count)
    )
    return nn.Sequential(*layers)


class Patches(nn.Module):
    """The patches of pictures `[n, 3, 48, 48]` as tokens with their places, `[n, tokens, width]`; a class token first.

    Args:
        width: of tokens.
        sizes: of patches.
    """

    def __init__(self, width: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.embed = nn.ModuleList(nn.Conv2d(3, width, size, stride=size) for size in sizes)
        count = sum((SIZE // size) ** 2 for size in sizes)
        self.first, self.places = (nn.Parameter(torch.randn(1, n, width) * 0.02) for n in (1, count))

    def forward(self, pixels: Tensor) -> Tensor:
        """The tokens."""
        tokens = torch.cat([embed(pixels).flatten(2).transpose(1, 2) for embed in self.embed], 1)
        return torch.cat([self.first.expand(len(pixels), -1, -1), tokens + self.places], 1)


class Plain(nn.Module):
    """One transformer over the patches of some sizes.

    Args:
        width: of tokens.
        sizes: of patches.
        layers: of the transformer.
    """

    def __init__(self, width: int, sizes: Sequence[int], layers: int = 4) -> None:
        super().__init__()
        self.patches, self.blocks = Patches(width, sizes), blocks(width, layers)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, DIMENSION))

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors `[n, 384]`."""
        found: Tensor = self.head(self.blocks(self.patches(pixels))[:, 0])
        return found


class Attend(nn.Module):
    """A class token that attends to the patches of the other size, in their width, and goes back to its own (CrossViT).

    Args:
        own: width of the class token.
        other: width of the patches.
    """

    def __init__(self, own: int, other: int) -> None:
        super().__init__()
        self.into, self.back = (
            nn.Sequential(nn.LayerNorm(given), nn.GELU(), nn.Linear(given, made))
            for given, made in ((own, other), (other, own))
        )
        self.norm, self.attention = nn.LayerNorm(other), nn.MultiheadAttention(other, 2, batch_first=True)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """The tokens `own` with another class token."""
        first = self.into(own[:, :1])
        read = self.norm(torch.cat([first, other[:, 1:]], 1))
        first = first + self.attention(read[:, :1], read, read, need_weights=False)[0]
        return torch.cat([self.back(first), own[:, 1:]], 1)


class Stage(nn.Module):
    """A layer of each transformer, after which both class tokens read the other's patches.

    Args:
        fine, coarse: widths of the tokens.
    """

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.fine, self.coarse = blocks(fine, 1), blocks(coarse, 1)
        self.reads_coarse, self.reads_fine = Attend(fine, coarse), Attend(coarse, fine)

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens of both."""
        fine, coarse = self.fine(fine), self.coarse(coarse)
        return self.reads_coarse(fine, coarse), self.reads_fine(coarse, fine)


class Crossed(nn.Module):
    """A transformer for each of two patch sizes, whose class tokens read the other's patches after each stage.

    Args:
        widths: of the tokens of fine and of coarse patches.
        stages: with a layer of each transformer.
    """

    def __init__(self, widths: tuple[int, int], stages: int = 2) -> None:
        super().__init__()
        fine, coarse = widths
        self.patches = nn.ModuleList([Patches(fine, [FINE]), Patches(coarse, [COARSE])])
        self.stages = nn.ModuleList(Stage(fine, coarse) for _ in range(stages))
        self.heads = nn.ModuleList(nn.Sequential(nn.LayerNorm(own), nn.Linear(own, DIMENSION)) for own in widths)

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors `[n, 384]`, the mean of those of both class tokens."""
        fine, coarse = (part(pixels) for part in self.patches)
        for stage in self.stages:
            fine, coarse = stage(fine, coarse)
        found: Tensor = (self.heads[0](fine[:, 0]) + self.heads[1](coarse[:, 0])) / 2
        return found


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "patches of 8": lambda: Plain(76, [FINE]),
    "patches of 16": lambda: Plain(72, [COARSE]),
    "both, joined": lambda: Plain(70, [FINE, COARSE]),
    "both, crossed (CrossViT)": lambda: Crossed((48, 64)),
}
BASELINE = next(iter(NETWORKS))


class Model(nn.Module):
    """A network as the loss takes it.

    Args:
        network: from pixels to vectors.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`sentence_embedding`, at unit length, of `inputs`."""
        return {"sentence_embedding": nn.functional.normalize(self.network(features["inputs"]), dim=1)}


def trained(name: str, items: Items, vectors: Tensor, seed: int, steps: int) -> nn.Module:
    """A network after so many steps."""
    torch.manual_seed(seed)
    model = Model(NETWORKS[name]()).train()
    shape = MediaTextNetwork(TowerShape(Picture(SIZE), 1, DIMENSION))  # tells the loss what the inputs are
    options: dict[str, Any] = {"first": 0.5, "augment": 0.6, "tau": 0.07, "weight": 0.0, "sparsity": 0.0, "ramp": 0}
    loss = MediaTextLoss(model, shape, items, vectors, None, **options)
    optimizer = torch.optim.AdamW(loss.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / max(steps, 1)))
    order, started, total = torch.randperm(len(items)), time.process_time(), 0.0
    for step in range(steps):
        batch = order[:BATCH]
        order = order[BATCH:] if len(order) >= 2 * BATCH else torch.randperm(len(items))
        value = loss([], batch)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total = 0.98 * total + 0.02 * float(value.detach()) if step else float(value.detach())
    weights, took = sum(own.numel() for own in model.parameters()), time.process_time() - started
    print(f"   {name} | seed {seed} | {weights:,} weights | {steps} steps, {took:.0f} s | loss {total:.3f}", flush=True)
    return model.eval()


def rate(share: float) -> float:
    """The learning rate after a share of the steps, beside the highest: a rise, then a cosine."""
    return share / WARMUP if share < WARMUP else (1 + math.cos(math.pi * (share - WARMUP) / (1 - WARMUP))) / 2


@torch.inference_mode()
def searched(model: nn.Module, names: Floats, pictures: Tensor, relevant: Any) -> dict[str, Values]:
    """R@1 and R@10 of each name."""
    vectors = torch.cat([model({"inputs": part})["sentence_embedding"] for part in pictures.split(256)])
    found = measures(names @ vectors.numpy().T, relevant)
    return {measure: found[measure] for measure in ("R@1", "R@10")}


def main() -> None:
    """Train, search, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/image_text"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[*FEW])
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=[*NETWORKS])
    parser.add_argument("--steps", type=int, default=1350)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows, path, form = unpacked(given.out), given.out / "patch-sizes.jsonl", Picture(SIZE)
    data = (
        {"image": f"images/twemoji/{own['id']}.png", "texts": learned(own["texts"], ["en"]), "group": own["id"]}
        for own in rows
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in data), "utf-8")
    items, english = read_items(path, form), [own["texts"]["en"]["name"] for own in rows]
    encoder: Any = Registry.default().create("sentence-transformers", {"model": MODEL, "device": "cpu"})
    vectors = nn.functional.normalize(torch.from_numpy(encoder.encode_query(items.names)), dim=1)
    names = vectors[[items.names.index(name) for name in english]].numpy()
    parts = [form.parts(picture)[0] for picture in pictures_of(given.out, "noto", rows)]
    pictures = normalized(torch.stack(parts))
    relevant = np.array(english)[:, None] == np.array(english)[None]
    values: dict[str, dict[str, list[Values]]] = {}
    untrained: list[Values] = []
    for seed in given.seeds:
        learnt = np.random.default_rng(seed).permutation(len(rows))[round(HELD * len(rows)) :]
        seen = np.isin(np.arange(len(rows)), learnt)
        part = items.of(learnt.tolist())
        for name in dict.fromkeys([BASELINE, *given.networks]):
            model = trained(name, part, vectors, seed, given.steps)
            for measure, own in searched(model, names, pictures, relevant).items():
                for kind, kept in (("names in the training", seen), ("other names", ~seen)):
                    values.setdefault(f"{measure}, {kind}", {}).setdefault(name, []).append(own[kept])
        start = trained(BASELINE, part, vectors, seed, 0)
        untrained.append(searched(start, names, pictures, relevant)["R@10"][seen])
    known = values["R@10, names in the training"][BASELINE]
    condition = above("trained", known, "untrained", untrained, by=0.1)
    print(condition)
    print_differences(values, baseline=BASELINE, same_queries=False, conditions=[condition])


if __name__ == "__main__":
    main()
