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
from collections.abc import Sequence
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
    from diptych_training.models.patch_encoders import EncoderShape, PictureBody

    run = folder / f"untrained-{seed}"
    torch.manual_seed(seed)
    more = {"frames": 1, "tubelet": 1, "context": 1}
    PictureBody(EncoderShape(**ENCODER, **more)).save(run)
    return run


def vectors(run: Path, images: Sequence[Any]) -> Floats:
    """Of pictures, as the adapter serves them."""
    options = {"model": str(run), "pooling": "mean", "device": "cpu", "batch_size": 64}
    encoder: Any = Registry.default().create("transformers-image", options)
    found: Floats = encoder.encode_document(images)
    return found


def probed(fitted: Floats, tested: Floats, labels: Sequence[str]) -> Floats:
    """Whether the probe names the category of each tested picture, 0 or 1."""
    scaler, names = StandardScaler().fit(fitted), np.asarray(labels)
    given, asked = scaler.transform(fitted), scaler.transform(tested)
    held = np.random.default_rng(0).permutation(len(names)) < len(names) // 5

    def probe(penalty: float, rows: Any) -> LogisticRegression:
        return LogisticRegression(C=penalty, max_iter=1000).fit(given[rows], names[rows])

    scores = [probe(penalty, ~held).score(given[held], names[held]) for penalty in PENALTIES]
    best = probe(PENALTIES[int(np.argmax(scores))], slice(None))
    return np.asarray(best.predict(asked) == names, np.float32)


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

    def of(self, run: Path) -> Floats:
        """Whether the probe of an encoder is right, picture by picture."""
        return probed(vectors(run, self.fitted), vectors(run, self.tested), self.labels)

    def of_pixels(self) -> Floats:
        """Of the numbers of the pixels alone, scaled to 12 a side."""
        small = [
            np.stack([np.asarray(Image.fromarray(own).resize((12, 12)), np.float32).ravel() for own in images])
            for images in (self.fitted, self.tested)
        ]
        return probed(small[0], small[1], self.labels)


def main() -> None:
    """Find the number of passes, train, probe, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/pretraining"))
    parser.add_argument("--arms", nargs="+", default=[*ARMS], choices=[*ARMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    parser.add_argument("--epochs", type=int, help="passes, instead of searching for the plateau")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = unpacked(given.out)
    probe, seconds = Probe(given.out, rows), dict[str, list[float]]()

    def at(arm: str, epochs: float, seed: int) -> Floats:
        run, took = trained(given.out, arm, seed, epochs)
        seconds.setdefault(arm, []).append(took)
        found = probe.of(run)
        print(f"   {arm} | seed {seed} | {epochs:g} passes, {took:.0f} s | {found.mean():.4f}", flush=True)
        return found

    conditions, epochs = [], given.epochs
    if epochs is None:
        search = plateau(lambda n, seed: float(at(BASELINE, n, seed).mean()), START, LIMIT, ONE)
        epochs, conditions = search[0], [search[1]]
    seconds.clear()
    found = {arm: [at(arm, epochs, seed) for seed in given.seeds] for arm in dict.fromkeys([BASELINE, *given.arms])}
    random = [probe.of(untrained(given.out, seed)) for seed in given.seeds]
    pixels = probe.of_pixels()
    conditions.append(above("trained", found[BASELINE], "untrained", random))
    report: dict[str, Any] = {"machine": facts(), "passes": epochs, "conditions": conditions, "effects": {}}
    print(f"pixels {pixels.mean():.3f}, untrained {np.mean(random):.3f}, {conditions}")
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
        report["effects"][arm] = {**row.to_data(), "seconds": took}
        low, high = row.seeds
        print(
            f"{arm} | {np.mean(row.found):.3f} | {row.difference:+.3f} [{low:+.3f}, {high:+.3f}] over queries "
            f"{row.queries} | {row.verdict} | {took:.0f} s"
        )
    (given.out / "found.json").write_text(json.dumps(report, indent=1, default=float) + "\n", "utf-8")


if __name__ == "__main__":
    main()
