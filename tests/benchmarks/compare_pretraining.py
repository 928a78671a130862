"""Encoders of pictures trained without labels by the recipe `pretrain`: what a linear probe reads from their vectors.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_pretraining.py --out build/pretraining

Each encoder learns from Twemoji's pictures of all 1,906 emoji. The probe is a logistic regression from vectors to the
emoji's category; it is fitted to Twemoji's pictures, its regularisation chosen on a fifth of them, and tested on
Noto's: another artist. All arms see each picture equally often. The number of passes is the one after which neither
twice nor four times as many give the baseline .005 more, on another seed. Intervals are Student's over the seeds, 95 %.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from compare_image_text import Emoji, unpacked
from compare_students import Quiet
from diptych import Registry
from diptych.training import load_recipe
from diptych.types import Floats
from diptych_experimental.pretraining.encoders import EncoderShape, PictureBody, Policy
from diptych_experimental.pretraining.models import MaskedLoss, masked_model
from effects.running import ONE, SEEDS, above, effect, plateau
from machine import facts

BASELINE = "random"
ARMS: dict[str, dict[str, Any]] = {  # options of the recipe
    BASELINE: {"mask": {"kind": "random"}},
    "random, two views": {"mask": {"kind": "random", "views": 2}},
    "disjoint": {"mask": {"kind": "disjoint"}, "loss": {"visible": 0.0}},
    "disjoint, joint": {"mask": {"kind": "disjoint"}},
    "dual": {"mask": {"kind": "dual"}},
}
ENCODER = {"size": 32, "patch": 8, "layers": 3, "width": 64, "heads": 2}
TRAINING = {"batch_size": 64, "learning_rate": 1e-3, "schedule": "cosine", "weight_decay": 0.05, "device": "cpu"}
PENALTIES = 10.0 ** np.arange(-4, 1)
START, LIMIT = 10, 40  # passes


def trained(folder: Path, arm: str, seed: int, epochs: float) -> tuple[Path, float]:
    """The folder of an encoder, trained unless it is there, and the seconds that it took."""
    run = folder / f"{arm.replace(', ', '-').replace(' ', '-')}-{epochs:g}-{seed}"
    recipe = {
        "recipe": "pretrain",
        "output": str(run),
        "seed": seed,
        "data": {"corpus": str(folder / "images" / "twemoji"), "share": 0},
        "encoder": {**ENCODER, "augment": 0.0},
        "decoder": {"width": 32, "heads": 1},
        "training": {**TRAINING, "epochs": epochs},
        **ARMS[arm],
    }
    report = load_recipe(recipe, Registry.default()).make(Quiet()).train()
    return run, report.seconds


def untrained(folder: Path, seed: int) -> Path:
    """The folder of an encoder with the random weights that all arms begin with."""
    run = folder / f"untrained-{seed}"
    torch.manual_seed(seed)
    more = {"frames": 1, "tubelet": 1}
    PictureBody(EncoderShape(**ENCODER, **more)).save(run)
    return run


def vectors(run: Path, images: Sequence[Any]) -> Floats:
    """Of pictures, as the adapter serves them."""
    options = {"modality": "image", "model": str(run), "pooling": "mean", "device": "cpu", "batch_size": 64}
    encoder: Any = Registry.default().create("transformers-media", options)
    found: Floats = encoder.encode_document(images)
    return found


def probed(fitted: Floats, tested: Floats, labels: Sequence[str]) -> tuple[Floats, float]:
    """Whether the probe names the category of each tested picture, 0 or 1; and its accuracy on the held-out fifth."""
    scaler, names = StandardScaler().fit(fitted), np.asarray(labels)
    given, asked = scaler.transform(fitted), scaler.transform(tested)
    held = np.random.default_rng(0).permutation(len(names)) < len(names) // 5

    def probe(penalty: float, rows: Any) -> LogisticRegression:
        return LogisticRegression(C=penalty, max_iter=1000).fit(given[rows], names[rows])

    scores = [probe(penalty, ~held).score(given[held], names[held]) for penalty in PENALTIES]
    best = probe(PENALTIES[int(np.argmax(scores))], slice(None))
    return np.asarray(best.predict(asked) == names, np.float32), float(max(scores))


class Probe:
    """The pictures of both artists with their categories.

    Args:
        folder: with the pictures.
        rows: the emoji.
    """

    def __init__(self, folder: Path, rows: Sequence[Emoji]) -> None:
        self.labels = [own["category"] for own in rows]
        self.fitted, self.tested = (
            [np.asarray(Image.open(folder / f"images/{artist}/{own['id']}.png").convert("RGB")) for own in rows]
            for artist in ("twemoji", "noto")
        )

    def of(self, run: Path) -> tuple[Floats, float]:
        """Whether the probe of an encoder is right, picture by picture; and on the first artist's other emoji."""
        return probed(vectors(run, self.fitted), vectors(run, self.tested), self.labels)

    def of_pixels(self) -> tuple[Floats, float]:
        """Of the numbers of the pixels alone, scaled to 12 a side."""
        small = [
            np.stack([np.asarray(Image.fromarray(own).resize((12, 12)), np.float32).ravel() for own in images])
            for images in (self.fitted, self.tested)
        ]
        return probed(small[0], small[1], self.labels)


def step_times(rounds: int) -> dict[str, float]:
    """Median processor milliseconds of a step of 64 pictures with random and with dual masks, in turn.

    Pictures of 48 pixels have 64 patches; the decoder is that of this script, and one of four layers, 64 wide.
    """
    found: dict[str, float] = {}
    for decoder in ({"width": 32, "layers": 1, "heads": 1}, {"width": 64, "layers": 4, "heads": 4}):
        steps = {kind: _step(kind, decoder) for kind in ("random", "dual")}
        taken: dict[str, list[float]] = {kind: [] for kind in steps}
        for _ in range(rounds + 1):
            for kind, step in steps.items():
                started = time.process_time()
                step()
                taken[kind].append(time.process_time() - started)
        name = f"decoder of {decoder['layers']} x {decoder['width']}"
        found |= {f"{kind}, {name}": 1000 * float(np.median(own[1:])) for kind, own in taken.items()}
    return found


def _step(kind: Policy, decoder: dict[str, int]) -> Callable[[], None]:
    shape = EncoderShape(size=48, patch=6, layers=3, width=64, heads=2, frames=1, tubelet=1)
    model = masked_model(shape, "image", decoder=decoder, target="pixels", seen=False, vector=False, device="cpu")
    pictures = torch.rand(64, 3, 48, 48) * 2 - 1
    loss = MaskedLoss(
        model.train(),
        lambda rows: pictures[list(rows)],
        policy=kind,
        ratio=0.75,
        views=1,
        decoded=0.5,
        target="pixels",
        teacher="none",
        momentum=0.0,
        seen=0.0,
        vector=0.0,
        corrupt=lambda inputs: inputs,
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss([], torch.arange(64)).backward()
        optimizer.step()

    return step


def main() -> None:
    """Find the number of passes, train, probe, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/pretraining"))
    parser.add_argument("--arms", nargs="+", default=[*ARMS], choices=[*ARMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    parser.add_argument("--epochs", type=int, help="passes, instead of searching for the plateau")
    parser.add_argument("--time", type=int, metavar="ROUNDS", help="only time steps with random and with dual masks")
    given = parser.parse_args()
    if given.time:
        print(facts(), *step_times(given.time).items(), sep="\n")
        return
    given.out.mkdir(parents=True, exist_ok=True)
    rows = unpacked(given.out)
    probe, seconds, same_artist = Probe(given.out, rows), dict[str, list[float]](), dict[str, list[float]]()

    def at(arm: str, epochs: float, seed: int) -> Floats:
        run, took = trained(given.out, arm, seed, epochs)
        seconds.setdefault(arm, []).append(took)
        found, same = probe.of(run)
        same_artist.setdefault(arm, []).append(same)
        told = f"{found.mean():.4f}, same artist {same:.4f}"
        print(f"   {arm} | seed {seed} | {epochs:g} passes, {took:.0f} s | {told}", flush=True)
        return found

    conditions, epochs = [], given.epochs
    if epochs is None:
        search = plateau(lambda n, seed: float(at(BASELINE, n, seed).mean()), START, LIMIT, ONE)
        epochs, conditions = search[0], [search[1]]
    seconds.clear()
    same_artist.clear()
    found = {arm: [at(arm, epochs, seed) for seed in given.seeds] for arm in dict.fromkeys([BASELINE, *given.arms])}
    starts = [probe.of(untrained(given.out, seed)) for seed in given.seeds]
    random, same_artist["untrained"] = [own for own, _ in starts], [own for _, own in starts]
    pixels, of_pixels = probe.of_pixels()
    conditions.append(above("trained", found[BASELINE], "untrained", random))
    report: dict[str, Any] = {"machine": facts(), "passes": epochs, "conditions": conditions, "effects": {}}
    print(f"pixels {pixels.mean():.3f}, same artist {of_pixels:.3f}, untrained {np.mean(random):.3f}, {conditions}")
    for arm, values in [("untrained", random), *found.items()]:
        row = effect(
            "pretrain",
            f"{arm} beside {BASELINE}",
            "emoji",
            "accuracy",
            found[BASELINE],
            values,
            same_queries=True,
            conditions=conditions,
        )
        took = float(np.mean(seconds.get(arm, [0.0])))
        same = float(np.mean(same_artist[arm]))
        report["effects"][arm] = {**row.to_data(), "seconds": took, "same artist": same_artist[arm]}
        low, high = row.seeds
        print(
            f"{arm} | {np.mean(row.found):.3f} | {row.difference:+.3f} [{low:+.3f}, {high:+.3f}] over queries "
            f"{row.queries} | {row.verdict} | same artist {same:.3f} | {took:.0f} s"
        )
    (given.out / "found.json").write_text(json.dumps(report, indent=1, default=float) + "\n", "utf-8")


if __name__ == "__main__":
    main()
