"""Pictures of an artist that the recipe `image_text` never saw, found by words: dense and by a lexicon, by language.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_image_text.py --out build/image_text

Trained on Twemoji's pictures of 90 % of the emoji, drawn by the seed. Searched are Noto's pictures of all 1,906,
exactly, by the names of the emoji: `seen` are the names of the 90 %, `unseen` those of the rest; `keywords` are right
for every picture that has them. `five languages` learns the texts of the example examples/emoji: the English name, the
names in all languages as one text, and a keyword of each as one. Intervals are of 95 %: Student's over the seeds, and
over the names, each with its mean over the seeds. Times are medians, one thread, in turn.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from compare_students import Quiet
from corpora import folder_of
from diptych import Registry
from diptych.training import load_recipe
from diptych.types import Floats
from diptych_adapters.media_text.encoders import MediaLexiconEncoder, MediaTextEncoder
from diptych_training.recipes.media_text import ranked
from effects.running import query_interval, student_interval
from machine import facts
from media_text import MODEL, Values, dense_rows, measures

SEEDS, HELD = (0, 1, 2), 0.1
CONDITIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {  # languages of the texts, options of the recipe
    "dense alone": (("en",), {"lexicon": None}),
    "both heads": (("en",), {}),
    "five languages": (("en", "de", "fr", "es", "it"), {"data": {"first": 0.34}}),
}
TRAINING: dict[str, Any] = {
    "epochs": 25,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "schedule": "cosine",
    "precision": "bfloat16",
    "device": "cpu",
}
Emoji = Mapping[str, Any]
Encode = Callable[[Sequence[str]], Floats]


def unpacked(folder: Path) -> list[Emoji]:
    """The emoji; their pictures are unpacked into the folder."""
    source = folder_of("emoji")
    if not (folder / "images").exists():
        with zipfile.ZipFile(source / "images.zip") as archive:
            archive.extractall(folder)
    with gzip.open(source / "emoji.json.gz", "rt", encoding="utf-8") as file:
        rows: list[Emoji] = json.load(file)
    return rows


def trained(folder: Path, rows: Iterable[Emoji], condition: str, seed: int, epochs: float | None) -> Path:
    """The folder of a model, trained unless it is there."""
    languages, options = CONDITIONS[condition]
    run, items = folder / f"{condition}-{seed}", folder / f"{condition}-{seed}.jsonl"
    with items.open("w", encoding="utf-8") as file:
        for own in rows:
            row = {
                "image": f"images/twemoji/{own['id']}.png",
                "texts": learned(own["texts"], languages),
                "group": own["id"],
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    recipe = {
        "recipe": "image_text",
        "model": MODEL,
        "output": str(run),
        "seed": seed,
        **options,
        "data": {"items": str(items), "share": 0, **options.get("data", {})},
        "training": {**TRAINING, "epochs": epochs or TRAINING["epochs"]},
    }
    report = load_recipe(recipe, Registry.default()).make(Quiet()).train()
    print(condition, seed, f"{report.steps} steps, {report.seconds:.0f} s", flush=True)
    return run


def learned(texts: Mapping[str, Any], languages: Sequence[str]) -> list[str]:
    """Of one picture: name and keywords, or, of several languages, the first name, all names and a keyword of each."""
    if len(languages) == 1:
        return [texts[languages[0]]["name"], *texts[languages[0]]["keywords"]]
    names = [texts[language]["name"] for language in languages]
    words = [[*texts[language]["keywords"], name][0] for language, name in zip(languages, names, strict=True)]
    return [names[0], " ".join(names), " ".join(words)]


def measured(
    run: Path, rows: Sequence[Emoji], seen: set[str], folder: Path, languages: Sequence[str]
) -> tuple[dict[str, float], dict[str, Values]]:
    """R@1, R@10 and nDCG@10 by system, language and kind of query; and R@1 and R@10 of each name, NaN if not asked."""
    images = [np.asarray(Image.open(folder / f"images/noto/{own['id']}.png").convert("RGB")) for own in rows]
    values, by_name = dict[str, float](), dict[str, Values]()
    for system, (encode, pictures) in systems(run, images).items():
        for language in languages:
            names = [own["texts"][language]["name"] for own in rows]
            relevant = np.array(names)[:, None] == np.array(names)[None]
            scores = encode(names) @ pictures.T
            for kind, kept in (("seen", True), ("unseen", False)):
                asked = np.array([(own["id"] in seen) is kept for own in rows])
                found = ranked(torch.from_numpy(scores[asked]), relevant[asked])
                values |= {f"{system}, {language}, {kind}, {measure}": value for measure, value in found.items()}
                for measure, hits in measures(scores, relevant).items():
                    by_name[f"{system}, {language}, {kind}, {measure}"] = np.where(asked, hits, np.nan)
        keywords = sorted({word for own in rows for word in own["texts"]["en"]["keywords"]})
        relevant = np.array([[word in own["texts"]["en"]["keywords"] for own in rows] for word in keywords])
        found = ranked(torch.from_numpy(encode(keywords) @ pictures.T), relevant)
        values[f"{system}, en, keywords, nDCG@10"] = found["nDCG@10"]
        values |= {f"{system}, {name}": value for name, value in composed(encode, pictures, rows).items()}
    return values, by_name


def over_names(measure: str, seeds: Sequence[Mapping[str, Values]]) -> str:
    """The interval over the names, each with its mean over the seeds that ask for it, if the measure has one."""
    if measure not in seeds[0]:
        return ""
    rows = np.stack([own[measure] for own in seeds])
    asked = ~np.isnan(rows).all(axis=0)
    low, high = query_interval(np.nanmean(rows[:, asked], axis=0))
    return f" over seeds, [{low:.3f}, {high:.3f}] over {asked.sum():,} names"


def composed(encode: Encode, pictures: Floats, rows: Sequence[Emoji]) -> dict[str, float]:
    """R@1 and R@10 of `woman running`'s picture, by that of `person running`, by `woman`, and by the sum of both.

    The picture that asks is no answer.
    """
    places = {own["texts"]["en"]["name"]: place for place, own in enumerate(rows)}
    pairs = [
        (place, word, places[target])
        for name, place in places.items()
        for word in ("woman", "man")
        if name.startswith("person") and (target := name.replace("person", word, 1)) in places
    ]
    asking, words = pictures[[place for place, _, _ in pairs]], encode([word for _, word, _ in pairs])
    relevant = np.zeros((len(pairs), len(rows)), bool)
    for row, (_, _, target) in enumerate(pairs):
        relevant[row, target] = True
    values: dict[str, float] = {"composed queries": float(len(pairs))}
    for name, queries in (("picture", asking), ("word", words), ("picture + word", asking + words)):
        scores = queries @ pictures.T
        for row, (place, _, _) in enumerate(pairs):
            scores[row, place] = -1.0
        found = ranked(torch.from_numpy(scores), relevant)
        values |= {f"composed, {name}, {measure}": found[measure] for measure in ("R@1", "R@10")}
    return values


def systems(run: Path, images: Sequence[Any]) -> dict[str, tuple[Encode, Floats]]:
    """By each way of serving the model, how texts are encoded, and the pictures' vectors; rows of unit length."""
    dense = MediaTextEncoder("image", model=str(run), device="cpu")
    ways: dict[str, tuple[Encode, Floats]] = {"dense": (dense.encode_query, dense.encode_document(images))}
    if (run / "words.json").exists():
        for name, queries in (("words", "words"), ("text side", "encoder")):
            lexicon = MediaLexiconEncoder("image", model=str(run), device="cpu", queries=queries)
            ways[f"lexicon, {name}"] = (
                lambda texts, own=lexicon: dense_rows(own.encode_query(texts), own.dimension),  # type: ignore[misc]
                dense_rows(lexicon.encode_document(images), lexicon.dimension),
            )
    return ways


def costs(run: Path, rows: Sequence[Emoji], folder: Path) -> dict[str, float]:
    """Milliseconds of a picture and of a query, and bytes of a picture's vector, by system."""
    images = [np.asarray(Image.open(folder / f"images/noto/{own['id']}.png").convert("RGB")) for own in rows[::10]]
    names = [own["texts"]["en"]["name"] for own in rows[::10]]
    dense = MediaTextEncoder("image", model=str(run), device="cpu")
    words, side = (
        MediaLexiconEncoder("image", model=str(run), device="cpu", queries=own) for own in ("words", "encoder")
    )
    terms = float(np.mean([len(own.indices) for own in words.encode_document(images)]))
    timed = {
        "picture, dense, ms": lambda n: dense.encode_document([images[n]]),
        "picture, lexicon, ms": lambda n: words.encode_document([images[n]]),
        "query, dense, ms": lambda n: dense.encode_query([names[n]]),
        "query, words, ms": lambda n: words.encode_query([names[n]]),
        "query, text side, ms": lambda n: side.encode_query([names[n]]),
    }
    found = {name: float(np.median(own)) * 1000 for name, own in in_turn(timed, len(images)).items()}
    return {**found, "terms": terms, "lexicon, bytes": 8 * terms, "dense, bytes": 4.0 * dense.dimension}


def in_turn(calls: Mapping[str, Callable[[int], Any]], count: int) -> dict[str, list[float]]:
    """Seconds of each call, all in turn; the first of each is not counted."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for n in range(count):
        for name, call in calls.items():
            started = time.perf_counter()
            call(n)
            found[name].append(time.perf_counter() - started)
    return {name: own[1:] for name, own in found.items()}


def main() -> None:
    """Train, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/image_text"))
    parser.add_argument("--conditions", nargs="+", default=[*CONDITIONS], choices=[*CONDITIONS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    parser.add_argument("--epochs", type=float)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = unpacked(given.out)
    found: dict[str, Any] = {"machine": facts(), "training": TRAINING}
    for condition in given.conditions:
        all_values, names = list[dict[str, float]](), list[dict[str, Values]]()
        for seed in given.seeds:
            order = np.random.default_rng(seed).permutation(len(rows))
            seen = {rows[place]["id"] for place in order[round(HELD * len(rows)) :]}
            run = trained(given.out, [own for own in rows if own["id"] in seen], condition, seed, given.epochs)
            values, by_name = measured(run, rows, seen, given.out, CONDITIONS[condition][0])
            all_values.append(values)
            names.append(by_name)
        found[condition] = {name: [own[name] for own in all_values] for name in all_values[0]}
        if (run / "words.json").exists():
            found[f"{condition}, costs"] = costs(run, rows, given.out)
            print(found[f"{condition}, costs"])
        for name, own in found[condition].items():
            low, high = student_interval(np.array(own)) if len(own) > 1 else (float("nan"),) * 2
            print(
                f"{condition} | {name} | {np.mean(own):.3f} [{low:.3f}, {high:.3f}]{over_names(name, names)}",
                flush=True,
            )
        (given.out / "found.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
