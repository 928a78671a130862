"""Exits and widths of one encoder over one index: recipe `elastic` beside layers and numbers that are merely cut off.

    python tests/benchmarks/compare_elastic.py "$DIPTYCH_DATA" emoji-en debian-mini --out build/elastic

`cut` leaves out layers and numbers of all-MiniLM-L6-v2 as it is. `turned` turns its vectors first so that the leading
numbers vary most, without training. `elastic` is trained on the collection's sentences and titles, without the judged
queries. Documents are encoded by the whole model of each way and searched exactly; *first 10* is the share of the
first ten that all-MiniLM-L6-v2 finds. The second table has documents of the other exits, with all numbers and a
quarter. Values are means over the seeds, with the lowest and the highest; the difference is of these means,
bootstrapped over the queries.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compare_students import MODEL, Quiet, mean_of, ranked, shown
from diptych import Registry
from diptych.encoders import Encoders
from diptych.evaluate import Evaluation, Qrels, compare, evaluate
from diptych.training import load_recipe
from diptych.types import Floats, Query
from diptych_training.recipes.elastic import export_exits, multi_exit
from fusion_sets import Judged, load

METRIC, LAYERS, WIDTHS = "nDCG@10", (2, 4, 6), (384, 192, 96, 48)


class Ways:
    """The models of each way, and what they find.

    Args:
        judged: the collection.
        output: where models come.
        training: options of the training.
        sentences: learned from at most.
        seed: of the training.
        cut: those of another seed, whose vectors of `cut` are taken, since no seed changes them.
    """

    def __init__(
        self,
        judged: Judged,
        output: Path,
        training: dict[str, Any],
        sentences: int,
        seed: int,
        cut: Ways | None = None,
    ) -> None:
        self._cut = cut or self
        self.queries = [Query(text, id=name) for name, text in judged.queries.items()]
        self.qrels, self.texts, self.output = Qrels(judged.grades), judged.documents, output
        output.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"_id": name, "text": text}) for name, text in judged.documents.items())
        (output / "corpus.jsonl").write_text("\n".join(lines), "utf-8")
        raw: dict[str, Any] = {
            "recipe": "elastic",
            "model": MODEL,
            "output": str(output / "elastic"),
            "seed": seed,
            "data": {"corpus": str(output / "corpus.jsonl"), "sentences": sentences, "documents": 1000},
            "elastic": {"layers": LAYERS, "widths": WIDTHS[1:]},
            "training": training,
        }
        self._recipe: Any = load_recipe(raw, Registry.default()).make(Quiet())
        self._vectors: dict[tuple[str, int, str], Floats] = {}

    def make(self) -> None:
        """Train, and write the models of the other ways."""
        self._recipe.prepare()
        plain = self._recipe.family.load(MODEL, self._recipe.options.training, prompts=None)
        for way, model in (("cut", multi_exit(plain, LAYERS)), ("turned", self._recipe.model())):
            if not (self.output / way).is_dir():
                export_exits(model, self.output / way)
        report = self._recipe.train()
        print(f"{report.steps} steps, {report.seconds:.0f} s", *report.remarks, report.measured, sep="\n  ", flush=True)

    def vectors(self, way: str, layer: int, side: str) -> Floats:
        """The vectors of the queries or documents by one exit."""
        key = way, layer, side
        if way == "cut" and self._cut is not self:
            return self._cut.vectors(way, layer, side)
        if key not in self._vectors:
            folder = self.output / way if layer == LAYERS[-1] else self.output / way / f"exit_{layer}"
            options = {"model": str(folder), "device": "cpu"}
            encoder = Encoders.open(None).with_options("sentence-transformers", options)
            texts = [own.text for own in self.queries] if side == "query" else [*self.texts.values()]
            self._vectors[key] = np.stack(getattr(encoder, f"encode_{side}")(texts))
        return self._vectors[key]

    def run(self, way: str, documents: int, layer: int, width: int) -> Any:
        """What an exit's queries find among another one's documents."""
        ours, theirs = self.vectors(way, layer, "query")[:, :width], self.vectors(way, documents, "document")[:, :width]
        return ranked("run", self.queries, _unit(ours), _unit(theirs), [*self.texts])

    def measured(self, way: str, documents: int, layer: int, width: int) -> tuple[Evaluation, float]:
        """The values of an exit's queries, and the share of the first ten in common with all-MiniLM-L6-v2."""
        found, present = self.run(way, documents, layer, width), self.run("cut", LAYERS[-1], LAYERS[-1], WIDTHS[0])
        return evaluate(found, self.qrels, [METRIC]), _common(found, present)


def lines(
    seeds: Sequence[Ways], ways: list[str], pairs: list[tuple[int, int]], widths: tuple[int, ...]
) -> Iterator[str]:
    """A row for each way, pair of exits (documents first) and width."""
    base = mean_of([seeds[0].measured("cut", LAYERS[-1], LAYERS[-1], WIDTHS[0])[0]], "base")
    for way, (documents, layer), width in itertools.product(ways, pairs, widths):
        found = [own.measured(way, documents, layer, width) for own in seeds]
        value, gap = mean_of([own for own, _ in found], "mean"), ""
        if value.per_query[METRIC] != base.per_query[METRIC]:
            (own,) = compare([base, value], "base", METRIC).differences
            gap = f"{own.mean:+.3f} [{own.low:+.3f}, {own.high:+.3f}]"
        each = shown([own.means[METRIC] for own, _ in found], 3)
        yield f"| {way} | {documents} | {layer} | {width} | {each} | {gap} | {shown([own for _, own in found], 2)} |"


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _common(found: Any, present: Any) -> float:
    """The mean share of the first ten in common."""
    sides = [
        {query: {own for own, _ in list(hits)[:10]} for query, hits in run.rankings.items()} for run in (found, present)
    ]
    return float(np.mean([len(sides[0][query] & own) / 10 for query, own in sides[1].items()]))


def main() -> None:
    """Print the tables of each collection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("build/elastic"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=100_000)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    training = {
        "epochs": options.epochs,
        "precision": options.precision,
        "device": "cpu",
        "batch_size": 64,
        "evaluate_every": 100,
    }
    training |= {"learning_rate": 1e-4, "warmup": 0.1}
    names = ("way", "layers of documents", "of queries", "numbers", METRIC, "difference", "first 10")
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|"
    for name in options.sets:
        judged, folder = load(options.root, name), options.out.absolute() / name
        seeds: list[Ways] = []
        for n in options.seeds:
            seeds.append(Ways(judged, folder / f"seed-{n}", training, options.sentences, n, *seeds[:1]))
            seeds[-1].make()
        print(f"\n{name}: {len(judged.documents):,} documents, {len(judged.queries)} queries\n\n{head}")
        last = LAYERS[-1]
        for line in lines(seeds, ["cut", "turned", "elastic"], [(last, layer) for layer in LAYERS], WIDTHS):
            print(line, flush=True)
        print(f"\n{head}")
        others = list(itertools.product(LAYERS[:-1], LAYERS))
        for line in lines(seeds, ["cut", "elastic"], others, WIDTHS[:3:2]):
            print(line, flush=True)


if __name__ == "__main__":
    main()
