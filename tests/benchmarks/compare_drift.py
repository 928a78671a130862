"""Drift maps on pairs of models from near to far: new queries on old vectors, mapped and not, against a full re-encode.

    python tests/benchmarks/compare_drift.py "$DIPTYCH_DATA" --folder /tmp/drift [--plot docs/images/drift.png]

Encodes first (prepare_drift.py: about an hour on two cores; `--documents` and `--queries` make it shorter), then fits
on a random 1, 5, 20, 50 and 100% of the documents as back-filled, and prints a table for each set. Each pair's figures
are kept in FOLDER/results and not made again. Overlap: share of the top 10 in common with the new queries on all new
vectors.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from diptych.evaluate import Qrels, evaluate
from diptych.types import Floats, Run
from diptych_experimental.drift import KINDS, LIKENESS, fit, nearest, shared, unit

PAIRS = (  # old, new; near to far
    ("minilm", "minilm-8bit"),
    ("minilm", "minilm-256"),
    ("minilm-256", "minilm"),
    ("minilm", "child"),
    ("minilm", "minilm-cls"),
    ("minilm", "minilm-max"),
    ("paraphrase", "minilm"),
    ("minilm", "paraphrase"),
    ("static", "minilm"),
)
SHARES = (0.01, 0.05, 0.2, 0.5, 1.0)


class Spaces:
    """One set in two spaces, with its judgements; what is measured are answers of the old vectors."""

    def __init__(self, folder: Path, old: str, new: str) -> None:
        texts = json.loads((folder / "texts.json").read_text())
        self.ids, self.query_ids, qrels = texts["ids"], texts["queries"], Qrels(texts["qrels"])
        self.qrels = qrels.restricted(query for query in self.query_ids if qrels.relevant(query))
        self.old, self.old_queries = vectors(folder, old)
        self.new, self.new_queries = vectors(folder, new)
        self.full, _ = nearest(self.new_queries, self.new, 10, similarity="cosine")

    def measured(self, queries: Floats) -> dict[str, Any]:
        """Overlap with the full re-encode, and nDCG@10."""
        found, _ = nearest(queries, self.old, 10, similarity="cosine")
        return {"overlap": float(shared(found, self.full).mean()), "ndcg": self.ndcg(queries, self.old)}

    def re_encoded(self, rows: Any) -> float:
        """nDCG@10 of the new queries on the new vectors of `rows`; all judgements count, found or not."""
        there = np.full_like(self.new, 0)
        there[rows] = self.new[rows]  # a zero vector comes after every document that is the least bit near
        return self.ndcg(self.new_queries, there)

    def ndcg(self, queries: Floats, documents: Floats) -> float:
        found, scores = nearest(queries, documents, 10, similarity="cosine")
        answers = {
            query: [(self.ids[row], float(score)) for row, score in zip(rows, values, strict=True)]
            for query, rows, values in zip(self.query_ids, found, scores, strict=True)
        }
        judged = {query: answers[query] for query in self.qrels.judgements}
        return evaluate(Run("found", judged), self.qrels, ["nDCG@10"]).means["nDCG@10"]


def vectors(folder: Path, name: str) -> tuple[Floats, Floats]:
    """Documents and queries, float32 `[n, d]`."""
    stem, _, size = name.rpartition("-")
    if size.isdigit():
        documents, queries = vectors(folder, stem)
        return unit(documents[:, : int(size)]), unit(queries[:, : int(size)])
    return np.load(folder / f"{name}.documents.npy"), np.load(folder / f"{name}.queries.npy")


def measure(folder: Path, old: str, new: str, seeds: int) -> dict[str, Any]:
    """All figures of a pair on a set."""
    spaces = Spaces(folder, old, new)
    everything = np.arange(len(spaces.ids))
    found: dict[str, Any] = {
        "documents": len(spaces.ids),
        "queries": len(spaces.query_ids),
        "full": spaces.re_encoded(everything),
        "old": spaces.measured(spaces.old_queries),
        "fits": [],
    }
    if spaces.new.shape[1] == spaces.old.shape[1]:
        found["unmapped"] = spaces.measured(spaces.new_queries)
    for share in SHARES:
        for seed in range(seeds if share < 1 else 1):
            size = max(50, round(share * len(everything)))
            rows = np.random.default_rng(seed + 1).permutation(len(everything))[:size]
            common = {"share": share, "seed": seed, "pairs": size, "part": spaces.re_encoded(rows)}
            found["fits"] += [common | one for one in fits(spaces, rows, seed)]
    return found


def fits(spaces: Spaces, rows: Any, seed: int) -> Iterator[dict[str, Any]]:
    """Each kind of map fitted on the back-filled rows: what its report says, and what it is worth on all documents."""
    for kind in KINDS:
        begun = time.perf_counter()
        fitted = fit(spaces.new[rows], spaces.old[rows], kind=kind, seed=seed, queries=spaces.new_queries)
        seconds = time.perf_counter() - begun
        mapped = fitted.map.apply(spaces.new_queries)
        facts = {"kind": kind, "seconds": seconds, "bytes": fitted.map.weight.nbytes + fitted.map.bias.nbytes}
        yield facts | spaces.measured(mapped) | {"quality": asdict(fitted.quality)}


def prepare(options: argparse.Namespace) -> None:
    """Encode what is not there."""
    script = Path(__file__).with_name("prepare_drift.py")
    command = [sys.executable, str(script), str(options.data), str(options.folder), "--sets", *options.sets]
    sizes = ["--documents", str(options.documents), "--queries", str(options.queries)]
    subprocess.run([*command, *sizes], check=True)


def table(results: dict[str, Any]) -> str:
    """A row a pair: overlap and, in brackets, nDCG@10."""
    heads = [f"{100 * share:g}%" for share in SHARES]
    names = ["old → new", "full", "old on old", "unmapped", "map", *heads]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for name, found in results.items():
        plain = found.get("unmapped")
        start = f"| {name} | {found['full']:.3f} | {cell(found['old'])} | {cell(plain) if plain else '-'} "
        for kind in KINDS:
            cells = [mean_cell(found, kind, share) for share in SHARES]
            lines.append(f"{start}| {kind} | {' | '.join(cells)} |")
            start = "| | | | "
    return "\n".join(lines)


def rule(every: dict[str, dict[str, Any]]) -> str:
    """How much of the old encoder's nDCG@10 maps keep, by their likeness."""
    kept: dict[int, list[float]] = {}
    for figures in (figures for found in every.values() for figures in found.values()):
        for one in figures["fits"]:
            kept.setdefault(min(19, int(one["quality"]["likeness"] * 20)), []).append(
                one["ndcg"] / figures["old"]["ndcg"]
            )
    lines = ["| likeness | maps | kept of the old encoder's nDCG@10 |", "|---|---|---|"]
    for step, found in sorted(kept.items()):
        lines.append(
            f"| {step / 20:.2f} to {(step + 1) / 20:.2f} | {len(found)} | {min(found):.2f} to {max(found):.2f} |"
        )
    return "\n".join(lines)


def cell(one: dict[str, Any]) -> str:
    return f"{one['overlap']:.2f} ({one['ndcg']:.3f})"


def mean_cell(found: dict[str, Any], kind: str, share: float) -> str:
    chosen = [one for one in found["fits"] if one["kind"] == kind and one["share"] == share]
    return cell({key: float(np.mean([one[key] for one in chosen])) for key in ("overlap", "ndcg")})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["scifact", "debian-synopsis"])
    parser.add_argument("--documents", type=int, default=12000, help="at most so many of a set; 0 for all")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1, help="draws of the back-filled part")
    parser.add_argument("--prepared", action="store_true", help="encode nothing; pairs without vectors are left out")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if not options.prepared:
        prepare(options)
    every = {name: results(options.folder, name, options.seeds) for name in options.sets}
    for name, found in every.items():
        print(f"\n{name}\n\n{table(found)}")
    print(f"\n{rule(every)}")
    if options.plot:
        plot(every, options.plot)


def results(folder: Path, name: str, seeds: int) -> dict[str, Any]:
    """The figures of each pair on a set; those that are kept are not made again."""
    found = {}
    for old, new in PAIRS:
        path = folder / "results" / f"{name}.{old}.{new}.json"
        if not path.exists():
            try:
                figures = measure(folder / name, old, new, seeds)
            except FileNotFoundError as error:
                print(f"left out: {name}, {old} and {new}: {error}", file=sys.stderr)
                continue
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(figures))
        found[f"{old} → {new}"] = json.loads(path.read_text())
    return found


def plot(every: dict[str, dict[str, Any]], path: Path) -> None:
    """What maps keep of the old encoder's nDCG@10: by how much is back-filled, and by their held-out likeness."""
    from matplotlib import pyplot

    figure, (by_share, by_likeness) = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    colors = {f"{old} → {new}": f"C{i}" for i, (old, new) in enumerate(PAIRS)}
    for number, found in enumerate(every.values()):
        for pair, figures in found.items():
            kept = [chosen(figures, share)["ndcg"] / figures["old"]["ndcg"] for share in SHARES]
            label = pair if number == 0 else None
            by_share.plot(SHARES, kept, "o-" if number == 0 else "s--", color=colors[pair], markersize=4, label=label)
            for one in figures["fits"]:
                at = one["quality"]["likeness"], one["ndcg"] / figures["old"]["ndcg"]
                by_likeness.plot(*at, "o" if number == 0 else "s", color=colors[pair], markersize=4, alpha=0.6)
    by_share.set(xscale="log", xticks=SHARES, xticklabels=[f"{100 * share:g}%" for share in SHARES])
    by_share.set(xlabel="back-filled", ylabel="nDCG@10 of mapped queries / old encoder's")
    by_likeness.set(xlabel="likeness on held-out pairs")
    by_likeness.axvline(LIKENESS, color="black", linestyle=":", linewidth=0.9)
    for panel in (by_share, by_likeness):
        panel.axhline(1, color="black", linewidth=0.6)
    by_share.set_title(", ".join(f"{name} {line}" for name, line in zip(every, ("solid", "dashed"), strict=False)))
    by_likeness.set_title(f"all maps; offered from {LIKENESS} on")
    by_share.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def chosen(figures: dict[str, Any], share: float) -> dict[str, Any]:
    """The fit that `best_map` takes: with real queries, the one with the highest held-out overlap of the linear two."""
    fits: Sequence[dict[str, Any]] = [f for f in figures["fits"] if f["kind"] in KINDS and f["share"] == share]
    return max(fits, key=lambda one: (one["seed"] == 0, one["quality"]["query_overlap"]))


if __name__ == "__main__":
    main()
