"""Processor time and bytes of searching pictures by words: in a dense slot, and in a lexicon's sparse one.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_picture_queries.py

The pictures, names and keywords are those of examples/emoji, in an embedded collection. The network of the recipe
`image_text` has random weights: they change what is found, not how long a picture or a text takes to encode. They also
change how many pictures share a word, and so the time of the sparse search itself. Times
are medians of one call at a time, all ways in turn, encoding included.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from diptych import Collection, Document, Registry
from diptych.search import Pipeline, Retrieve
from diptych_adapters.media_text.encoders import space_of, text_encoder
from diptych_adapters.media_text.network import MediaTextModel, MediaTextNetwork, Picture, TowerShape, words_of
from machine import facts
from rounds import interleaved

EMOJI = Path(__file__).parents[2] / "examples" / "emoji"
TEXT = ("sentence-transformers", {"model": "all-MiniLM-L6-v2"})


def model(folder: Path, texts: list[str]) -> Path:
    """A network of random weights with the words of these texts."""
    encoder, words = text_encoder(*TEXT), sorted({word for text in texts for word in words_of(text)})
    network = MediaTextNetwork(TowerShape(Picture(48), width=32, dimension=encoder.dimension, terms=len(words))).eval()
    adapter, options = TEXT
    MediaTextModel(network, words, {"adapter": adapter, "options": options, "space": space_of(encoder)}).save(folder)
    return folder


def spent(call: Callable[[], object]) -> float:
    """Milliseconds of the processor that one call takes."""
    begin = time.process_time()
    call()
    return 1000 * (time.process_time() - begin)


def searching(collection: Collection, slot: str, names: list[str]) -> Callable[[int], float]:
    """A search of one slot by the name of a number."""
    pipeline = Pipeline((Retrieve(slot, 10),))
    return lambda n: spent(lambda: collection.search(names[n % len(names)], pipeline=pipeline, limit=10))


def reading(encoder: Any, pictures: list[Any]) -> Callable[[int], float]:
    """The encoding of one picture."""
    return lambda n: spent(lambda: encoder.encode_document([pictures[n % len(pictures)]]))


def main() -> None:
    """Fill the collection, and print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--words", type=int, default=64, help="words of a picture that are kept")
    given = parser.parse_args()
    with gzip.open(EMOJI / "emoji.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with zipfile.ZipFile(EMOJI / "pictures.zip") as archive:
            archive.extractall(folder / "pictures")
        network = model(folder / "model", [text for row in rows for own in row["texts"].values() for text in own])
        common = {"modality": "image", "model": str(network), "of": "image"}
        cut = {"adapter": "media-lexicon", **common, "max_active_dims": given.words}
        slots = {
            "dense": {"adapter": "media-text", **common},
            "words": cut,
            "side": {**cut, "queries": "encoder"},
        }
        raw = {"store": f"edge:{folder / 'store'}", "collection": "c", "slots": slots}
        raw |= {"media": {"root": str(folder / "pictures")}, "search": {"remember": 0}}
        with Collection.open(raw, registry=Registry.default()) as collection:
            collection.populate(Document(row["id"], media={"image": f"noto/{row['id']}.png"}) for row in rows)
            measure(collection, folder, rows, given.rounds)


def measure(collection: Collection, folder: Path, rows: list[dict[str, Any]], rounds: int) -> None:
    """Print times and bytes."""
    names = [row["texts"]["en"][0] for row in rows[:: max(1, len(rows) // rounds)]]
    paths = [folder / "pictures" / "noto" / f"{row['id']}.png" for row in rows[:rounds]]
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    encoders = {name: slot.encoder for name, slot in collection.handle.slots.items()}
    jobs = {f"search {name}": searching(collection, name, names) for name in encoders}
    jobs |= {f"picture, {name}": reading(encoders[name], pictures) for name in ("dense", "words")}
    print({key: value for key, value in facts().items() if key in ("cpu", "commit")})
    for name, times in interleaved(jobs, rounds).items():
        print(f"{name}: {median(times):.2f} ms")
    terms = median(len(own.indices) for own in encoders["words"].encode_document(pictures))
    print(f"bytes of a picture: dense {4 * encoders['dense'].dimension:,}, words {8 * terms:,.0f}")


if __name__ == "__main__":
    main()
