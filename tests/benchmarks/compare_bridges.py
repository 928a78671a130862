"""Bridges between two spaces: a drift map, a perceptron, DiffDis's denoising, and PTUnifier's pool of prompts.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_bridges.py --out build/image_text --seeds 0

Pictures' vectors that know no texts, the pixels of 12 by 12, are carried into the space of MiniLM, where names find
them. The bridges are fitted to Twemoji's pictures and the names of 90 % of the emoji, drawn by the seed; a tenth of
these pairs says when a training ends. Noto's pictures are searched by the names of all emoji. Intervals are over the
seeds (Student's), where there are several, and over the names, of paired differences, 95 %.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from arms import print_differences
from compare_image_text import HELD, Emoji, unpacked
from diptych import Registry
from diptych.types import Floats
from diptych_experimental.drift import fit
from diptych_training.losses.contrastive import symmetric_contrastive
from effects.running import FEW
from media_text import MODEL, Values

HIDDEN, POOL, CHOSEN = 512, 1024, 32  # units of a network; prompts of a pool, and how many of them an item takes
STEPS, PATIENCE, BATCH, RATE, TAU = 3000, 5, 128, 1e-3, 0.07  # PATIENCE: checks without a gain, one in 100 steps
TIMES = 100  # steps of the noise
DRIFT_MAP = "drift map"
Bridge = Callable[[Floats], Floats]


class Perceptron(nn.Module):
    """Two layers of units between the spaces."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(source, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, target)
        )

    def training_output(self, source: Tensor, target: Tensor) -> Tensor:
        """What is compared with the target."""
        return self.forward(source)

    def forward(self, source: Tensor) -> Tensor:
        """Vectors in the target space."""
        found: Tensor = self.layers(source)
        return found


class Denoiser(nn.Module):
    """The target's vector out of noise, given the source's (DiffDis).

    Args:
        source, target: dimensions.
        steps: of the denoising, when it is used.
    """

    def __init__(self, source: int, target: int, steps: int) -> None:
        super().__init__()
        self.inner, self.target, self.steps = Perceptron(source + target + 1, target), target, steps
        self.register_buffer("noise", torch.randn(1, target))

    def training_output(self, source: Tensor, target: Tensor) -> Tensor:
        """The clean target, of a noisy one."""
        time = torch.randint(1, TIMES + 1, (len(source), 1)) / TIMES
        signal, noise = _shares(time)
        noisy = signal * target * self.target**0.5 + noise * torch.randn_like(target)
        return self._clean(noisy, time, source)

    def forward(self, source: Tensor) -> Tensor:
        """Vectors in the target space, from one fixed noise, in even steps (DDIM)."""
        state = self.get_buffer("noise").expand(len(source), -1)
        times = torch.linspace(1, 0, self.steps + 1)
        clean = state
        for now, then in itertools.pairwise(times):
            clean = self._clean(state, now.expand(len(source), 1), source)
            scaled = nn.functional.normalize(clean, dim=1) * self.target**0.5
            (signal, noise), (next_signal, next_noise) = _shares(now), _shares(then)
            state = next_signal * scaled + next_noise * (state - signal * scaled) / noise
        return clean

    def _clean(self, noisy: Tensor, time: Tensor, source: Tensor) -> Tensor:
        found: Tensor = self.inner(torch.cat([noisy, time, source], 1))
        return found


def _shares(time: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of signal and noise at a time from 0 to 1, on a cosine."""
    angle = time * torch.pi / 2
    return angle.cos(), angle.sin()


class Prompts(nn.Module):
    """A pool of prompts; an item takes those that its vector is nearest to, and a linear map reads them (PTUnifier)."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(nn.functional.normalize(torch.randn(POOL, source), dim=1))
        self.values = nn.Parameter(torch.randn(POOL, target) * 0.02)
        self.linear = nn.Linear(source, target)

    def training_output(self, source: Tensor, target: Tensor) -> Tensor:
        """What is compared with the target."""
        return self.forward(source)

    def forward(self, source: Tensor) -> Tensor:
        """Vectors in the target space."""
        nearest = (nn.functional.normalize(source, dim=1) @ nn.functional.normalize(self.keys, dim=1).T).topk(CHOSEN)
        weights = (nearest.values / TAU).softmax(1)
        found: Tensor = self.linear(source) + (weights[:, :, None] * self.values[nearest.indices]).sum(1)
        return found


BRIDGES: Mapping[str, Callable[[int, int], Any]] = {
    "perceptron": Perceptron,
    "denoising, 1 step (DiffDis)": lambda source, target: Denoiser(source, target, 1),
    "denoising, 4 steps (DiffDis)": lambda source, target: Denoiser(source, target, 4),
    "pool of prompts (PTUnifier)": Prompts,
}


def trained(name: str, source: Floats, target: Floats, seed: int) -> Bridge:
    """A bridge trained by the contrastive loss and the squared error, kept where a tenth of the pairs liked it best."""
    torch.manual_seed(seed)
    mean, spread = source.mean(0), source.std() + 1e-6
    given, wanted = torch.from_numpy((source - mean) / spread), torch.from_numpy(target)
    held = torch.randperm(len(given))[: len(given) // 10]
    kept = torch.ones(len(given), dtype=torch.bool)
    kept[held] = False
    rows = kept.nonzero()[:, 0]
    model = BRIDGES[name](given.shape[1], wanted.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.05)
    best, state, since = -1.0, model.state_dict(), 0
    for step in range(1, STEPS + 1):
        batch = rows[torch.randint(len(rows), (BATCH,))]
        made = nn.functional.normalize(model.training_output(given[batch], wanted[batch]), dim=1)
        alike = wanted[batch] @ wanted[batch].T > 0.9999
        scores = made @ wanted[batch].T / TAU
        loss = symmetric_contrastive(scores, alike, ~alike) + (made - wanted[batch]).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            value = _likeness(model, given[held], wanted[held])
            since = 0 if value > best else since + 1
            if since == 0:
                best, state = value, {key: own.clone() for key, own in model.state_dict().items()}
            if since == PATIENCE:
                break
    model.load_state_dict(state)
    print(f"   {name}: {step} steps, {sum(own.numel() for own in model.parameters()):,} weights", flush=True)

    @torch.no_grad()
    def bridge(vectors: Floats) -> Floats:
        made = nn.functional.normalize(model(torch.from_numpy((vectors - mean) / spread)), dim=1)
        return np.asarray(made.numpy(), np.float32)

    return bridge


@torch.no_grad()
def _likeness(model: nn.Module, source: Tensor, target: Tensor) -> float:
    """The mean reciprocal rank of each target among all, by what the model makes of its source."""
    scores = nn.functional.normalize(model(source), dim=1) @ target.T
    ranks = (scores > scores.diagonal()[:, None]).sum(1) + 1.0
    return float((1 / ranks).mean())


def fitted(name: str, source: Floats, target: Floats, seed: int) -> Bridge:
    """A bridge, fitted to pairs; the drift map is the ridge regression that `diptych swap` uses."""
    if name == DRIFT_MAP:
        return fit(source, target, kind="ridge", seed=seed).map.apply
    return trained(name, source, target, seed)


def hits(scores: Floats, right: NDArray[np.bool_]) -> dict[str, Values]:
    """R@1 and R@10 of each query."""
    own = np.where(right, scores, -np.inf).max(1)
    places = (scores > own[:, None]).sum(1)
    return {f"R@{k}": (places < k).astype(np.float64) for k in (1, 10)}


def pixels(images: Sequence[Any]) -> Floats:
    """Pictures as 432 numbers from -1 to 1, float32 `[n, 432]`."""
    small = [np.asarray(Image.fromarray(own).resize((12, 12)), np.float32).ravel() for own in images]
    return np.asarray(np.stack(small) / 127.5 - 1, np.float32)


def main() -> None:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/image_text"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[*FEW])
    parser.add_argument("--bridges", nargs="+", default=[DRIFT_MAP, *BRIDGES], choices=[DRIFT_MAP, *BRIDGES])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[Emoji] = unpacked(given.out)
    english = [own["texts"]["en"]["name"] for own in rows]
    right = np.array(english)[:, None] == np.array(english)[None]
    encoder: Any = Registry.default().create("sentence-transformers", {"model": MODEL, "device": "cpu"})
    names = np.asarray(encoder.encode_query(english), np.float32)
    twemoji, noto = (pixels(pictures_of(given.out, artist, rows)) for artist in ("twemoji", "noto"))
    values: dict[str, dict[str, list[Values]]] = {}
    for seed in given.seeds:
        learned = np.random.default_rng(seed).permutation(len(rows))[round(HELD * len(rows)) :]
        seen = np.isin(np.arange(len(names)), learned)
        for name in given.bridges:
            bridge = fitted(name, twemoji[learned], names[learned], seed)
            for measure, own in hits(names @ bridge(noto).T, right).items():
                for kind, kept in (("names in the training", seen), ("other names", ~seen)):
                    values.setdefault(f"{measure}, {kind}", {}).setdefault(name, []).append(own[kept])
    print_differences(values, baseline=given.bridges[0], same_queries=False)


def pictures_of(folder: Path, artist: str, rows: Sequence[Emoji]) -> list[Any]:
    """An artist's pictures."""
    return [np.asarray(Image.open(folder / f"images/{artist}/{own['id']}.png").convert("RGB")) for own in rows]


if __name__ == "__main__":
    main()
