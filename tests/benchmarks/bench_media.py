"""What share of an encoder's own rate populate reaches with pictures, and how its memory grows.

    python tests/benchmarks/bench_media.py

A network of the recipe image_text with random weights, which is as fast as a trained one, into Qdrant Edge. Beside
populate stands the encoder alone, on pictures that were decoded before, and on the same files, which are decoded in its
time, by turns. Memory is the resident set's growth while twice and while all of the pictures come. `--json FILE` keeps
the figures (figures.py).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_populate import timed
from corpora import folder_of
from diptych import Collection, Document, Registry
from diptych.media import MediaConfig, MediaStore
from figures import Figure, Result
from machine import versions

BATCH = 64  # pictures that diptych decodes for one call


def model(folder: Path, *, size: int, width: int) -> Path:
    """A network of random weights beside all-MiniLM-L6-v2."""
    from diptych_adapters.media_text.encoders import space_of, text_encoder
    from diptych_adapters.media_text.network import MediaTextModel, MediaTextNetwork, Picture, TowerShape

    adapter, options = "sentence-transformers", {"model": "all-MiniLM-L6-v2"}
    encoder = text_encoder(adapter, options)
    network = MediaTextNetwork(TowerShape(Picture(size), width=width, dimension=encoder.dimension)).eval()
    MediaTextModel(network, [], {"adapter": adapter, "options": options, "space": space_of(encoder)}).save(folder)
    return folder


def populated(images: Path, names: Sequence[str], network: Path) -> tuple[float, float, int]:
    """Seconds by the clock and the processor of populating these pictures, and bytes by which the process grew."""
    slots = {"picture": {"adapter": "media-text", "modality": "image", "model": str(network), "of": "image"}}
    with tempfile.TemporaryDirectory() as folder:
        raw = {"store": f"edge:{folder}", "collection": "c", "slots": slots, "media": {"root": str(images)}}
        raw["cache"] = {"enabled": False}
        with Collection.open(raw) as collection:
            _ = collection.handle.slots["picture"].encoder
            before = resident()
            seconds = timed(lambda: collection.populate(Document(name, media={"image": name}) for name in names))
            grown = resident() - before
            assert collection.client.count("c").count == len(names), "every picture is a point"
    return *seconds, grown


def resident() -> int:
    """Bytes of the process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measured(images: Path, names: Sequence[str], network: Path, rounds: int) -> list[Figure]:
    """The rates beside the encoder's own."""
    encoder: Any = Registry.default().create(
        "media-text", {"modality": "image", "model": str(network)}, where="the encoder alone"
    )
    store = MediaStore(MediaConfig(), images)
    media = [store.take("image", name) for name in names]
    pixels = [store.content(own) for own in media]
    batches = [range(at, min(at + BATCH, len(names))) for at in range(0, len(names), BATCH)]

    def alone() -> None:
        for batch in batches:
            encoder.encode_document([pixels[n] for n in batch])

    def with_files() -> None:
        fresh = MediaStore(MediaConfig(), images)
        for batch in batches:
            encoder.encode_document([fresh.content(fresh.take("image", names[n])) for n in batch])

    alone()
    populated(images, names[:BATCH], network)
    rows = [(timed(alone), timed(with_files), populated(images, names, network)) for _ in range(rounds)]
    for own, files, all_of_it in rows:
        print(
            f"encode {own[0]:.2f} s, from files {files[0]:.2f} s, populate {all_of_it[0]:.2f} s; processor "
            f"{own[1]:.2f}, {files[1]:.2f}, {all_of_it[1]:.2f} s; grew by {all_of_it[2] / 1e6:.0f} MB",
            flush=True,
        )
    rates = [own[0] / all_of_it[0] for own, _, all_of_it in rows]
    from_files = [files[0] / all_of_it[0] for _, files, all_of_it in rows]
    half = [populated(images, names[: len(names) // 2], network)[2] / 1e6 for _ in range(rounds)]
    return [
        Figure("rate of populate, by wall time", "pictures", "ratio", rates, "encode_document", ">= 0.9"),
        Figure("rate of populate, by wall time", "pictures", "ratio", from_files, "files and encode_document", ""),
        Figure("memory while populating", f"{len(names) // 2} pictures", "MB", half, "", ""),
        Figure("memory while populating", f"{len(names)} pictures", "MB", [r[2][2] / 1e6 for r in rows], "", ""),
    ]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="a folder or a zip file; emoji of $DIPTYCH_DATA unless given")
    parser.add_argument("--documents", type=int, default=1906)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = source = options.pictures or folder_of("emoji") / "images.zip"
        if source.is_file():
            images = Path(folder) / "images"
            with zipfile.ZipFile(source) as archive:
                archive.extractall(images)
        names = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))[: options.documents]
        if not names:
            parser.error(f"there is no .png file in {source}: name --pictures, or set DIPTYCH_DATA")
        network = model(Path(folder) / "model", size=options.size, width=options.width)
        figures = measured(images, names, network, options.rounds)
    notes = [f"{len(names)} pictures of {source.name}, a network of {options.size} pixels, into Edge."]
    Result("Populate with pictures beside the encoder alone", figures, notes, {"diptych": versions()}).write(
        options.json
    )


if __name__ == "__main__":
    main()
