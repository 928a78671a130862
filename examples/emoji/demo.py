"""Train on one artist's pictures, find another's by words in five languages, and show the words of each picture.

Run by `make demo-emoji`; it takes a few minutes on two cores. Everything stays on this machine.
"""

from __future__ import annotations

import gzip
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from diptych import Collection, Document, Hit, Query, Registry
from diptych.cli.output import Bars
from diptych.cli.train import Watched
from diptych.evaluate import Qrels, evaluate
from diptych.search import Pipeline, Retrieve, Rrf
from diptych.training import load_recipe
from diptych.types import Run
from diptych_adapters.media_text.encoders import MediaLexiconEncoder

HERE = Path(__file__).parent
OUT = HERE / "out"
SEEN, UNSEEN = "twemoji", "noto"  # the artists
LANGUAGES = ("en", "de", "fr", "es", "it")
QUESTIONS = [
    "dog face",
    "red heart",
    "Flugzeug",
    "Regenbogen",
    "poisson",
    "pastèque",
    "cámara",
    "luna llena",
    "gatto",
    "chitarra",
]
ASKED = 4  # every fourth name is asked
SHOWN, CELL, MARGIN = 6, 96, 10  # pictures of an answer; pixels of one, and around it
Row = dict[str, Any]


def unpack() -> list[Row]:
    """Return the emoji; write the pictures and the training file to `out/pictures`."""
    pictures = OUT / "pictures"
    if not pictures.exists():
        with zipfile.ZipFile(HERE / "pictures.zip") as archive:
            archive.extractall(pictures)
    with gzip.open(HERE / "emoji.jsonl.gz", "rt", encoding="utf-8") as file:
        rows: list[Row] = [json.loads(line) for line in file]
    with (pictures / "train.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            item = {"image": f"{SEEN}/{row['id']}.png", "texts": learned(row), "group": row["id"]}
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
    return rows


def learned(row: Row) -> list[str]:
    """The texts of a picture: its English name, its names in all languages, and one keyword in each language."""
    texts = row["texts"].values()
    return [
        row["texts"]["en"][0],
        " ".join(own[0] for own in texts),
        " ".join(own[min(1, len(own) - 1)] for own in texts),
    ]


def train(console: Console) -> None:
    console.rule(f"1. Train on the pictures of {SEEN}")
    with Watched() as watcher:
        report = load_recipe(HERE / "train.yaml", Registry.default()).make(watcher).train()
    console.print(f"{report.steps} steps in {report.seconds:.0f} s")


def fill(collection: Collection, rows: list[Row], console: Console) -> None:
    console.rule(f"2. Populate with the pictures of {UNSEEN}, without any text")
    documents = [
        Document(row["id"], media={"image": f"{UNSEEN}/{row['id']}.png"}, metadata={"emoji": row["emoji"]})
        for row in rows
    ]
    with Bars() as progress:
        report = collection.populate(documents, progress=progress)
    console.print(f"{report.read} pictures read in {report.seconds:.1f} s, {report.new} new")


def ask(collection: Collection, console: Console) -> list[list[Hit]]:
    console.rule("3. Search, and what each picture says in words")
    answers = collection.search_batch(QUESTIONS, limit=SHOWN)
    lexicon = MediaLexiconEncoder("image", model=str(OUT / "model"))
    for question, hits in zip(QUESTIONS, answers, strict=True):
        results = Table(title=question, title_justify="left", title_style="bold", show_header=False)
        for hit, vector in zip(hits[:3], lexicon.encode_document([picture(hit) for hit in hits[:3]]), strict=True):
            words = ", ".join(f"{word} {weight:.2f}" for word, weight in lexicon.decode(vector, 5))
            results.add_row(str(hit.document.metadata["emoji"]), hit.id, words)
        console.print(results)
    return answers


def measure(collection: Collection, rows: list[Row], console: Console) -> None:
    console.rule(f"4. Evaluate: by {len(rows[::ASKED]):,} names, the right picture first / among ten of {len(rows):,}")
    systems: dict[str, Pipeline] = {
        "picture": Pipeline((Retrieve("picture", 100),)),
        "words": Pipeline((Retrieve("words", 100),)),
        "both, RRF": Retrieve("picture", 100) + Retrieve("words", 100) >> Rrf(k=60),
    }
    results = Table("slots", *LANGUAGES)
    with console.status("five languages through each pipeline"):
        for name, pipeline in systems.items():
            results.add_row(name, *(found(collection, pipeline, rows, language) for language in LANGUAGES))
    console.print(results)


def found(collection: Collection, pipeline: Pipeline, rows: list[Row], language: str) -> str:
    """The shares of names whose picture is the first hit, and among the first ten."""
    queries = [Query(row["texts"][language][0], id=row["id"]) for row in rows[::ASKED]]
    hits = collection.search_batch(queries, pipeline=pipeline, limit=10)
    qrels = Qrels({row["id"]: {row["id"]: 1} for row in rows[::ASKED]})
    means = evaluate(Run.from_hits(language, queries, hits), qrels, ("Success@1", "Success@10")).means
    return f"{means['Success@1']:.2f} / {means['Success@10']:.2f}"


def picture(hit: Hit) -> np.ndarray[Any, Any]:
    with Image.open(OUT / "pictures" / UNSEEN / f"{hit.id}.png") as image:
        return np.asarray(image.convert("RGB"))


def contact_sheet(answers: list[list[Hit]]) -> Path:
    """Draw a row for each question with its first pictures, and save it as `out/contact_sheet.png`."""
    left, font = 170, ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 18)
    size = (left + SHOWN * (CELL + MARGIN) + MARGIN, len(answers) * (CELL + MARGIN) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for row, (question, hits) in enumerate(zip(QUESTIONS, answers, strict=True)):
        top = MARGIN + row * (CELL + MARGIN)
        draw.text((MARGIN, top + CELL // 2 - 10), question, "black", font)
        for column, hit in enumerate(hits):
            drawn = Image.fromarray(picture(hit)).resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(drawn, (left + column * (CELL + MARGIN), top))
    path = OUT / "contact_sheet.png"
    sheet.save(path)
    return path


def main() -> None:
    console, started = Console(), time.perf_counter()
    rows = unpack()
    train(console)
    with Collection.open(HERE / "diptych.yaml") as collection:
        fill(collection, rows, console)
        answers = ask(collection, console)
        measure(collection, rows, console)
    console.print(f"The contact sheet: {contact_sheet(answers)}")
    console.print(
        f"All of it took {time.perf_counter() - started:.0f} s. Run it again: nothing is trained or encoded twice."
    )


if __name__ == "__main__":
    main()
