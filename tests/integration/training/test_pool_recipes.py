"""The recipes `unidec` and `dexml`, from files to a collection that is filled and searched."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import Collection
from diptych.config import parse_config
from diptych.training import load_recipe, register
from diptych_experimental.unidec_encoder import UniDECEncoder
from every_recipe import REGISTRY
from tiny_models import WORDS, bert
from tiny_training import Told

LABELS = {f"d{n}": f"{WORDS[n]} {WORDS[20 + n]}" for n in range(18)}  # d16 and d17 are nobody's
POSITIVES = {f"q{n}": [f"d{n % 16}", f"d{(n + 1) % 16}"] for n in range(32)}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """Files of a small task in which a query's words are those of its documents."""
    queries = [
        {"_id": f"q{n}", "text": f"{WORDS[n % 16]} {WORDS[(n + 1) % 16]} {WORDS[36 + n // 16]}"} for n in range(32)
    ]
    documents = [{"_id": name, "title": "", "text": text} for name, text in LABELS.items()]
    for name, rows in (("queries.jsonl", queries), ("corpus.jsonl", documents)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    lines = [f"{query}\t{document}\t1" for query, own in POSITIVES.items() for document in own]
    (tmp_path / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]))
    bert(tmp_path / "bert")
    return {
        name: str(tmp_path / f"{name}{end}")
        for name, end in (("queries", ".jsonl"), ("corpus", ".jsonl"), ("qrels", ".tsv"))
    }


def recipe(name: str, data: dict[str, str], folder: Path, **sections: Any) -> Any:
    training = {"epochs": 12, "batch_size": 8, "learning_rate": 5e-3, "device": "cpu", **sections.pop("training", {})}
    made = {
        "recipe": name,
        "model": str(folder / "bert"),
        "output": str(folder / "run"),
        "data": data,
        "training": training,
    }
    return load_recipe({**made, **sections}, REGISTRY).make(Told())


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"loss": {"name": "soft_topk", "k": 2}, "training": {"mini_batch_size": 4}},
        {"pool": {"size": 10, "num_pos": 1, "num_neg": 2, "refresh_every": 2}},
    ],
)
def test_dexml_learns_to_find_documents(sections: Any, data: dict[str, str], tmp_path: Path) -> None:
    report = recipe("dexml", data, tmp_path, **sections).train()
    assert report.measured["after"]["nDCG@10"] > report.measured["before"]["nDCG@10"]
    [only] = report.models
    assert only.adapter == "sentence-transformers"
    assert ((tmp_path / "run" / "data" / "refresh-0.npy").exists()) is ("pool" in sections)


@pytest.mark.slow
def test_unidec_is_trained_registered_filled_and_searched(data: dict[str, str], tmp_path: Path) -> None:
    pool = {"size": 12, "num_pos": 2, "num_neg": 2, "refresh_every": 2}
    report = recipe("unidec", data, tmp_path, pool=pool, classifier={"learning_rate": 0.02}).train()
    assert report.measured["after"]["nDCG@10"] > report.measured["before"]["nDCG@10"]
    assert any("2 documents that no query asked for" in remark for remark in report.remarks)
    assert [(one.name, one.adapter) for one in report.models] == [
        ("", "unidec"),
        ("de", "sentence-transformers"),
        ("clf", "unidec"),
    ]
    config = tmp_path / "diptych.yaml"
    config.write_text(
        'store: "memory:"\ncollection: labels\nslots:\n'
        f"  dense: {{adapter: sentence-transformers, model: {tmp_path / 'bert'}}}\n"
    )
    assert register(config, report.models[0], REGISTRY) == "slots.dense"
    queries = [f"{WORDS[n]} {WORDS[(n + 1) % 16]}" for n in range(16)]
    with Collection.open(config) as collection:
        collection.populate([{"id": name, "text": text} for name, text in LABELS.items()])
        hits = collection.search_batch(queries, limit=18)
    encoder = UniDECEncoder.of(model=str(tmp_path / "run"), device="cpu")
    wanted = encoder.encode_query(queries) @ encoder.encode_document(list(LABELS.values())).T
    for row, own in zip(wanted, hits, strict=True):
        assert [hit.score for hit in own] == pytest.approx(np.sort(row)[::-1], abs=1e-4)
    best = [[hit.id for hit in own[:2]] for own in hits]
    assert np.mean([set(POSITIVES[f"q{n}"]) == set(own) for n, own in enumerate(best)]) > 0.5


def test_heads_serve_as_two_named_vectors(data: dict[str, str], tmp_path: Path) -> None:
    report = recipe("unidec", data, tmp_path, training={"epochs": 1}).train()
    slots = {one.name: {"adapter": one.adapter, **one.options, "device": "cpu"} for one in report.models[1:]}
    search = {"retrieve": {"de": 10, "clf": 10}, "fuse": {"kind": "rrf"}, "limit": 3}
    config = parse_config({"store": "memory:", "collection": "labels", "slots": slots, "search": search})
    with Collection.open(config) as collection:
        collection.populate([{"id": name, "text": text} for name, text in LABELS.items()])
        assert len(collection.search("word1 word2")) == 3


@pytest.mark.parametrize("page", ["unidec", "dexml"])
def test_the_recipe_on_the_page_is_one(page: str) -> None:
    from ruamel.yaml import YAML

    text = (Path(__file__).parents[3] / "docs" / "research" / "methods" / f"{page}.md").read_text("utf-8")
    written = [YAML(typ="safe").load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    [whole] = [own for own in written if "recipe" in own]
    for more in [{}, *(own for own in written if own.keys() == {"pool"})]:
        assert load_recipe({**whole, **more}, REGISTRY).spec.name == page
