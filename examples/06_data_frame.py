"""Documents out of a data frame, and hits as one. Needs pandas; polars and pyarrow do as well."""

from __future__ import annotations

import tempfile

import pandas as pd

from diptych import Collection, frames
from diptych.config import parse_config

PACKAGES = pd.DataFrame(
    {
        "package": ["sox", "ardour", "gimp"],
        "description": [
            "Swiss army knife of sound processing: converts audio files between formats.",
            "Digital audio workstation: record, edit and mix many tracks.",
            "Image manipulation program: retouch photographs and compose pictures.",
        ],
        "section": ["sound", "sound", None],
        "released": pd.to_datetime(["2021-05-09", None, "2024-05-05"]),
    }
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        slots = {"lexical": {"adapter": "bm25", "language": "english"}}
        config = parse_config({"store": f"edge:{folder}", "collection": "packages", "slots": slots})
        with Collection.open(config) as packages:
            packages.populate(frames.documents(PACKAGES, id="package", text="description"))
            queries = ["audio files", "edit pictures"]
            answers = packages.search_batch(queries, limit=2)
            print(pd.DataFrame(frames.answers(queries, answers)).drop(columns="text").to_string())


if __name__ == "__main__":
    main()
