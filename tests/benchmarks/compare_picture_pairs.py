"""What an encoder of pictures sees: emoji beside twins of other colours, or mirrored, asked for by their names.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_picture_pairs.py --out build/image_text

Models are those that `compare_image_text.py` trains on Twemoji's pictures ("both heads", a seed each, in `--out`); it
varies colours and turns pictures, but never mirrors them. The pictures are Noto's, of names that were in the training.
Intervals are over the pairs, with each pair's mean over the seeds, 95 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from compare_image_text import HELD, SEEDS, systems, unpacked
from diptych import Document, Query
from diptych.evaluate import Qrels
from diptych.media import MediaConfig, MediaStore
from diptych_experimental.minimal_pairs import picture_pairs
from effects.running import query_interval


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/image_text"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    given = parser.parse_args()
    rows, store = unpacked(given.out), MediaStore(MediaConfig(), given.out)
    asked = [Query(own["texts"]["en"]["name"], own["id"]) for own in rows]
    noto = {own["id"]: Document(own["id"], media={"image": f"images/noto/{own['id']}.png"}) for own in rows}
    pairs = picture_pairs(asked, Qrels({query.id: {query.id: 1} for query in asked}), noto, store)
    texts, found = {query.id: query.text for query in asked}, dict[tuple[str, str], dict[str, list[float]]]()
    for seed in given.seeds:
        order = np.random.default_rng(seed).permutation(len(rows))
        seen = {rows[place]["id"] for place in order[round(HELD * len(rows)) :]}
        own_pairs = [pair for pair in pairs if pair.document in seen]
        pictures: list[Any] = [store.content(store.take("image", noto[p.document].media["image"])) for p in own_pairs]
        pictures += [pair.twin.media["image"] for pair in own_pairs]
        for system, (encode, vectors) in systems(given.out / f"both heads-{seed}", pictures).items():
            queries = encode([texts[pair.query] for pair in own_pairs])
            right, wrong = ((queries * part).sum(1) for part in np.split(vectors, 2))
            values = (right > wrong) + (right == wrong) / 2
            for pair, value in zip(own_pairs, values.tolist(), strict=True):
                found.setdefault((system, pair.changed), {}).setdefault(pair.query, []).append(value)
    for (system, changed), by_pair in found.items():
        values = np.array([np.mean(own) for own in by_pair.values()])
        low, high = query_interval(values)
        print(f"{system} | {changed} | {values.mean():.3f} [{low:.3f}, {high:.3f}] | {len(values)} pairs", flush=True)


if __name__ == "__main__":
    main()
