"""Encoders of series of several variables, trained without labels: two channels (PaD-TS), one a source (Met2Net).

    python -m pip download --no-deps aeon==1.6.0 && unzip -q aeon-*.whl 'aeon/datasets/data/JapaneseVowels/*'
    OMP_NUM_THREADS=1 python tests/benchmarks/compare_series.py aeon/datasets/data/JapaneseVowels --out build/series

JapaneseVowels: 640 utterances of nine speakers as 12 cepstral coefficients at 25 times, 270 of them to train and index.
A query is one of the 370 others; right is an utterance of the same speaker. Queries are asked whole, and with parts
hidden: a third of the times and a third of the variables, by a seed that no training has. Encoders of about equal size
learn to fill in what is hidden in this way. The vector, of 64 numbers, is the mean of the tokens. Nothing was tuned.
The number of steps is the one after which neither twice nor four times as many give the encoder of times .005 more on
queries with hidden parts, on another seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diptych.types import Floats
from effects.running import FEW, LEARNT, ONE, Condition, above, effect, plateau
from machine import facts

WIDTH, LAYERS, HEADS = 64, 3, 4
HIDDEN, BATCH, RATE = 1 / 3, 64, 1e-3
START, LIMIT = 250, 1000  # steps
WHOLE, PARTS = "whole queries", "queries with hidden parts"
Given = tuple[Tensor, Tensor]  # of an encoder: the vectors [n, WIDTH], and the values filled in [n, times, variables]


class Filler(nn.Module):
    """An encoder of series with what fills in hidden values: linear maps from its tokens.

    Args:
        times, variables: of a series.
    """

    def __init__(self, times: int, variables: int) -> None:
        super().__init__()
        self.times, self.variables = times, variables

    def forward(self, values: Tensor, shown: Tensor) -> Given:
        """Of values `[n, times, variables]`, of which only those where `shown` is 1 are read."""
        raise NotImplementedError


class Times(Filler):
    """A token for each time, of all variables: the plain encoder."""

    def __init__(self, times: int, variables: int) -> None:
        super().__init__(times, variables)
        self.channel = Channel(2 * variables, variables, WIDTH, 2 * WIDTH, LAYERS, places=times)

    def forward(self, values: Tensor, shown: Tensor) -> Given:
        """As `Filler`."""
        return self.channel(torch.cat([values * shown, shown], 2))  # type: ignore[no-any-return]  # of a module


class Alone(Filler):
    """Each variable by itself, in patches of five times, by the same weights, as PatchTST has it."""

    def __init__(self, times: int, variables: int, patch: int = 5) -> None:
        super().__init__(times, variables)
        self.patch = patch
        self.channel = Channel(2 * patch, patch, WIDTH, 2 * WIDTH, LAYERS, places=times // patch)

    def forward(self, values: Tensor, shown: Tensor) -> Given:
        """As `Filler`."""
        n = len(values)
        parts = [own.transpose(1, 2).reshape(n * self.variables, -1, self.patch) for own in (values * shown, shown)]
        vectors, filled = self.channel(torch.cat(parts, 2))
        filled = filled.reshape(n, self.variables, self.times).transpose(1, 2)
        return vectors.reshape(n, self.variables, -1).mean(1), filled


class TwoChannels(Filler):
    """Tokens of times, and tokens of variables without positions, in a transformer each (PaD-TS).

    The vector is both means side by side, and the values are the sum of what both fill in.
    """

    def __init__(self, times: int, variables: int) -> None:
        super().__init__(times, variables)
        half, inner = WIDTH // 2, 3 * WIDTH  # of which two have as many weights as one of WIDTH and 2 WIDTH
        self.by_time = Channel(2 * variables, variables, half, inner, LAYERS, places=times)
        self.by_variable = Channel(2 * times, times, half, inner, LAYERS)

    def forward(self, values: Tensor, shown: Tensor) -> Given:
        """As `Filler`."""
        parts = [values * shown, shown]
        first, of_times = self.by_time(torch.cat(parts, 2))
        second, of_variables = self.by_variable(torch.cat([own.transpose(1, 2) for own in parts], 2))
        return torch.cat([first, second], 1), of_times + of_variables.transpose(1, 2)


class Sources(Filler):
    """A perceptron with its own weights for each variable, then attention over the variables (Met2Net).

    All is trained at once: Met2Net's two stages, in which one half learns through a frozen copy of the other, are not
    here.
    """

    def __init__(self, times: int, variables: int, inner: int = 22) -> None:
        super().__init__(times, variables)
        self.first = nn.Parameter(torch.randn(variables, 2 * times, inner) / (2 * times) ** 0.5)
        self.second = nn.Parameter(torch.randn(variables, inner, WIDTH) / inner**0.5)
        self.layers = transformer(WIDTH, 2 * WIDTH, LAYERS - 1)
        self.out = nn.Parameter(torch.randn(variables, WIDTH, times) / WIDTH**0.5)

    def forward(self, values: Tensor, shown: Tensor) -> Given:
        """As `Filler`."""
        own = torch.cat([values * shown, shown], 1).transpose(1, 2)
        inner = nn.functional.gelu(torch.einsum("nvt,vth->nvh", own, self.first))
        tokens = self.layers(torch.einsum("nvh,vhw->nvw", inner, self.second))
        return tokens.mean(1), torch.einsum("nvw,vwt->ntv", tokens, self.out)


class Channel(nn.Module):
    """A transformer over tokens, with the values that a linear map fills in of each token.

    Args:
        given, wanted: numbers read and filled in of each token.
        width, inner, layers: of the transformer.
        places: of the tokens, which have learned positions then; without it their order is of no account.
    """

    def __init__(self, given: int, wanted: int, width: int, inner: int, layers: int, places: int = 0) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(given, width), nn.Linear(width, wanted)
        self.positions = nn.Parameter(torch.randn(places, width) * 0.1) if places else None
        self.layers = transformer(width, inner, layers)

    def forward(self, inputs: Tensor) -> Given:
        """The mean token `[n, width]`, and the values `[n, tokens, wanted]`, of inputs `[n, tokens, given]`."""
        tokens = self.into(inputs)
        tokens = self.layers(tokens if self.positions is None else tokens + self.positions)
        return tokens.mean(1), self.out(tokens)


def transformer(width: int, inner: int, layers: int) -> nn.Module:
    """Layers with norms before, and one at the end."""
    layer = nn.TransformerEncoderLayer(width, HEADS, inner, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)


TIMES = "a token for each time"
ARMS: dict[str, type[Filler]] = {
    TIMES: Times,
    "each variable by itself": Alone,
    "two channels": TwoChannels,
    "an encoder for each variable": Sources,
}


class Utterances:
    """The series of both parts, standardised by those that are trained on, with their classes.

    Args:
        source: the folder of an equal-length data set in the format .ts.
    """

    def __init__(self, source: Path) -> None:
        (train, self.indexed), (test, self.asked) = (self._read(source, part) for part in ("TRAIN", "TEST"))
        mean, spread = train.mean((0, 1)), train.std((0, 1))
        self.train, self.test = ((own - mean) / spread for own in (train, test))
        shown = torch.ones_like(self.test)
        self.queries = {WHOLE: shown, PARTS: partly(shown, torch.Generator().manual_seed(777))}

    @torch.no_grad()
    def measured(self, encode: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Floats]:
        """Whether the nearest indexed utterance is of the same speaker, by kind of query, 0 or 1 a query.

        Args:
            encode: gives the vectors of values, and of where they are shown.
        """
        index = encode(self.train, torch.ones_like(self.train))
        mean, found = index.mean(0), {}
        for kind, shown in self.queries.items():
            vectors = nn.functional.normalize(encode(self.test, shown) - mean)
            nearest = (vectors @ nn.functional.normalize(index - mean).T).argmax(1).numpy()
            right = np.asarray(self.indexed)[nearest] == np.asarray(self.asked)
            found[kind] = np.asarray(right, np.float32)
        return found

    @staticmethod
    def _read(source: Path, part: str) -> tuple[Tensor, list[str]]:
        (path,) = source.glob(f"*_eq_{part}.ts")
        lines = path.read_text("utf-8").splitlines()
        rows = [line.split(":") for line in lines[lines.index("@data") + 1 :] if line]
        values = np.asarray([[own.split(",") for own in row[:-1]] for row in rows], np.float32)
        return torch.from_numpy(values).transpose(1, 2), [row[-1] for row in rows]


def partly(shown: Tensor, draws: torch.Generator) -> Tensor:
    """`[n, times, variables]` with 0 at a third of the times and a third of the variables of each series."""
    for axis in (1, 2):
        size = shown.shape[axis]
        hidden = torch.rand(len(shown), size, generator=draws).argsort(1) < round(HIDDEN * size)
        shown = shown.masked_fill(hidden.unsqueeze(3 - axis), 0.0)
    return shown


def vectors(encoder: Filler) -> Callable[[Tensor, Tensor], Tensor]:
    """The encoder's vectors alone."""
    return lambda values, shown: encoder(values, shown)[0]


def made(arm: str, utterances: Utterances, seed: int) -> Filler:
    """The encoder of an arm with random weights."""
    torch.manual_seed(seed)
    return ARMS[arm](*utterances.train.shape[1:])


def trained(arm: str, utterances: Utterances, seed: int, steps: int) -> Filler:
    """The encoder of an arm after so many steps."""
    encoder, values = made(arm, utterances, seed), utterances.train
    optimizer = torch.optim.AdamW(encoder.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = values[torch.randperm(len(values), generator=draws)[:BATCH]]
        shown = partly(torch.ones_like(batch), draws)
        missed = (encoder(batch, shown)[1] - batch) * (1 - shown)
        loss = missed.square().sum() / (1 - shown).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return encoder.eval()


def main() -> None:
    """Find the number of steps, train, ask, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/series"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[*FEW])
    parser.add_argument("--steps", type=int, help="instead of searching for the plateau")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    utterances, steps = Utterances(given.source), given.steps
    conditions: list[Condition] = []
    sizes = {arm: sum(own.numel() for own in made(arm, utterances, 0).parameters()) for arm in ARMS}
    plain = {
        "means of the variables": utterances.measured(lambda own, shown: (own * shown).sum(1) / shown.sum(1).clamp(1)),
        "all values": utterances.measured(lambda own, shown: (own * shown).flatten(1)),
    }
    report: dict[str, Any] = {"machine": facts(), "weights": sizes, "effects": {}}
    report["no network"] = {name: {kind: float(own.mean()) for kind, own in it.items()} for name, it in plain.items()}
    print("no network:", report["no network"])
    if steps is None:
        search = plateau(
            lambda n, seed: float(utterances.measured(vectors(trained(TIMES, utterances, seed, n)))[PARTS].mean()),
            START,
            LIMIT,
            ONE,
        )
        steps, conditions = search[0], [search[1]]
    report["steps"] = steps

    def by_arm(make: Callable[[str, int], Filler]) -> dict[str, list[dict[str, Floats]]]:
        return {arm: [utterances.measured(vectors(make(arm, seed))) for seed in given.seeds] for arm in ARMS}

    found = by_arm(lambda arm, seed: trained(arm, utterances, seed, steps))
    random = by_arm(lambda arm, seed: made(arm, utterances, seed).eval())
    for kind in utterances.queries:
        base = [own[kind] for own in found[TIMES]]
        for arm in ARMS:
            values, start = ([own[kind] for own in side[arm]] for side in (found, random))
            row = effect(
                "PaD-TS, Met2Net",
                f"{arm} beside {TIMES}",
                "JapaneseVowels",
                f"R@1, {kind}",
                base,
                values,
                same_queries=True,
                conditions=[*conditions, above("trained", values, "untrained", start, by=LEARNT)],
            )
            report["effects"][f"{kind}, {arm}"] = row.to_data()
            low, high = row.seeds
            print(
                f"{kind} | {arm}, {sizes[arm]:,} weights | untrained {np.mean(start):.3f} | {np.mean(row.found):.3f} "
                f"| {row.difference:+.3f} [{low:+.3f}, {high:+.3f}] over queries {row.queries} | {row.verdict} | "
                f"{row.conditions}",
                flush=True,
            )
    (given.out / "found.json").write_text(json.dumps(report, indent=1, default=float) + "\n", "utf-8")


if __name__ == "__main__":
    main()
