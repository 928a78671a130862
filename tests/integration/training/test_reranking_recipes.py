"""The recipes of rerankers: trained, registered and searched with, all by tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych_adapters.hooks
import diptych_experimental.hooks
import diptych_training.hooks
from diptych import Collection, Registry
from diptych.errors import ConfigError
from diptych.training import TrainReport, load_recipe, register
from diptych_training.corpus import TrainingData
from diptych_training.recipes.cross_encoder import CrossEncoding
from diptych_training.recipes.negatives import Reranking, list_rows
from tiny_models import WORDS, bert, encoder
from tiny_training import Told

GOOD, BAD = WORDS[39], WORDS[38]
QUERIES = {f"q{n}": WORDS[n] for n in range(16)}
RELEVANT = {f"r{n}": f"{WORDS[n]} {WORDS[20 + n % 10]} {GOOD}" for n in range(16)}
OTHERS = {f"o{n}-{m}": f"{WORDS[n]} {WORDS[20 + m]} {BAD}" for n in range(16) for m in range(3)}
QRELS = {f"q{n}": {f"r{n}": 1.0} for n in range(16)}
REGISTRY = Registry(diptych_adapters.hooks, diptych_training.hooks, diptych_experimental.hooks, installed=False)
DATA = TrainingData(QUERIES, {**RELEVANT, **OTHERS}, QRELS)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with the files of the data and two models."""
    texts = "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in DATA.documents.items())
    (tmp_path / "corpus.jsonl").write_text(texts)
    (tmp_path / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in QUERIES.items())
    )
    rows = "".join(f"{query}\t{name}\t1\n" for query, own in QRELS.items() for name in own)
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    encoder(tmp_path / "made").save_pretrained(str(tmp_path / "retriever"))
    bert(tmp_path / "bert", seed=1)
    return tmp_path


def options(world: Path, name: str, **more: Any) -> dict[str, Any]:
    files = {"queries": "queries.jsonl", "qrels": "qrels.tsv", "corpus": "corpus.jsonl"}
    data = {**{key: str(world / file) for key, file in files.items()}, "dev": {"share": 0.25}}
    models = {"model": str(world / "bert"), "retriever": str(world / "retriever")}
    if name == "ar2":
        models = {"model": str(world / "retriever"), "ranker": str(world / "bert")}
    return {"recipe": name, "output": str(world / "run"), "data": data, **models, **more}


def cross_encoder(world: Path, **more: Any) -> dict[str, Any]:
    training = {"epochs": 1, "batch_size": 4, "learning_rate": 5e-3, "max_length": 32, "device": "cpu"}
    negatives = {"per_query": 3, "last_rank": 12}
    given: dict[str, Any] = {"draws": 8, "candidates": 12, "negatives": negatives, "training": training}
    return options(world, "cross_encoder", **{**given, **more})


def learned(report: TrainReport) -> bool:
    """Whether the held-out queries' relevant documents, which one word marks, stand far better than before."""
    before, after = (report.measured[when]["nDCG@10"] for when in ("before", "after"))
    return after > before + 0.3


def trained(given: dict[str, Any], watcher: Told | None = None) -> TrainReport:
    return load_recipe(given, REGISTRY).make(watcher or Told()).train()


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("cross_encoder", {}),
        ("uni_encoder", {"attention": "isolated"}),
        pytest.param("uni_encoder", {"attention": "arrow"}, marks=pytest.mark.slow),
    ],
)
def test_a_reranker_is_trained_registered_and_reranks_a_search(
    recipe: str, options: dict[str, Any], world: Path
) -> None:
    given = {**cross_encoder(world), "recipe": recipe, **options}
    report = trained(given)
    assert learned(report)
    assert 0 < report.measured["first stage"]["nDCG@10"] < report.measured["after"]["nDCG@10"]
    assert "| metric | first stage | before | after |" in (world / "run" / "README.md").read_text()
    config = world / "diptych.yaml"
    slots = "slots:\n  lexical: {adapter: bm25}\nsearch:\n  retrieve: {lexical: 20}\n  limit: 3\n"
    config.write_text(f"store: edge:{world}/store\ncollection: words\n{slots}")
    assert register(config, report.models[0], REGISTRY) == "search.rerank[0]"
    with Collection.open(config, registry=REGISTRY) as collection:
        collection.populate([{"id": key, "text": text} for key, text in DATA.documents.items()])
        found = [collection.search(text)[0].id for text in QUERIES.values()]
    right = [query.replace("q", "r") for query in QUERIES]
    assert sum(map(str.__eq__, found, right)) >= 15, found
    if recipe == "uni_encoder":
        again = trained({**given, "model": str(world / "run"), "output": str(world / "more")})
        assert again.measured["before"] == report.measured["after"], "a trained one goes on"


def test_rows_hold_the_relevant_document_first_and_negatives_that_are_not_judged() -> None:
    candidates = {query: [*DATA.documents] for query in QUERIES}
    rows = list(list_rows(DATA, candidates, per_query=4, draws=3, seed=1))
    assert len(rows) == 3 * len(QRELS)
    by_text = {text: name for name, text in DATA.documents.items()}
    for row in rows:
        query = next(key for key, text in QUERIES.items() if text == row["query"])
        names = [by_text[text] for text in row["documents"]]
        assert names[0] in QRELS[query]
        assert not set(names[1:]) & set(QRELS[query])
        assert len(set(names)) == 5
        assert row["label"][1:] == [0.0] * 4
    assert rows[0]["documents"][1:] != rows[16]["documents"][1:]


def test_the_evaluation_is_that_of_the_library() -> None:
    from diptych.evaluate import Qrels, evaluate
    from diptych.types import Run

    class Drawn:
        def predict(self, pairs: Any, **given: Any) -> Any:
            return np.random.default_rng(3).random(len(pairs)).astype(np.float32)

    candidates = {query: [*DATA.documents][n : n + 14] for n, query in enumerate(QUERIES)}
    graded = TrainingData(QUERIES, DATA.documents, {q: {**own, "o0-0": 2.0} for q, own in QRELS.items()})
    reranking = Reranking(graded, candidates)
    asked = [(query, name) for query, own in candidates.items() for name in own]
    values = dict(zip(asked, Drawn().predict(asked).tolist(), strict=True))
    rankings = {q: sorted(((d, values[q, d]) for d in own), key=lambda p: -p[1]) for q, own in candidates.items()}
    judged = Qrels({query: {name: int(grade) for name, grade in own.items()} for query, own in graded.qrels.items()})
    means = evaluate(Run("drawn", rankings), judged, ["nDCG@10", "MRR@10"]).means
    assert reranking(Drawn()) == pytest.approx({"ndcg@10": means["nDCG@10"], "mrr@10": means["MRR@10"]})


GAME = {
    "rounds": 2,
    "warm_steps": 4,
    "warm_ranker_steps": 4,
    "ranker_steps": 2,
    "retriever_steps": 2,
    "ranker_rate": 1e-3,
    "check": False,  # four steps make no ranker
}


def ar2(world: Path, **game: Any) -> dict[str, Any]:
    training = {"batch_size": 4, "learning_rate": 1e-3, "max_length": 32, "device": "cpu"}
    return options(world, "ar2", game={**GAME, **game}, negatives={"per_query": 5}, training=training)


SIDES = ("ranker", "retriever")


@pytest.mark.slow
def test_ar2_keeps_the_retriever_of_the_best_round_and_its_ranker(world: Path) -> None:
    watcher = Told()
    report = trained(ar2(world), watcher)
    assert [model.adapter for model in report.models] == ["sentence-transformers", "cross-encoder"]
    rounds = [sentence for sentence in watcher.sentences if sentence.startswith("round")]
    assert [sentence[:8] for sentence in rounds] == ["round 1:", "round 2:"]
    values = [float(sentence.split("; ")[1].split()[0]) for sentence in rounds]
    assert report.measured["after"]["nDCG@10"] >= max(values) - 1e-4
    log = [json.loads(line) for line in (world / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["round"] for entry in log if "round" in entry] == [1, 2]
    last = {name: max(e["step"] for e in log if e.get("model") == name and "loss" in e) for name in SIDES}
    assert last == {"ranker": 8, "retriever": 4}
    assert watcher.done == 4 + 8 + 4
    assert "Hardness of the mined negatives by round: 0." in report.remarks[0]
    config = world / "diptych.yaml"
    dense = f"{{adapter: sentence-transformers, model: {world}/retriever}}"
    config.write_text(f"store: edge:{world}/store\ncollection: words\nslots:\n  dense: {dense}\n")
    assert [register(config, model, REGISTRY) for model in report.models] == ["slots.dense", "search.rerank[0]"]
    with Collection.open(config, registry=REGISTRY) as collection:
        collection.populate([{"id": key, "text": text} for key, text in DATA.documents.items()])
        assert len(collection.search(QUERIES["q0"], limit=5)) == 5


def test_ar2_refuses_a_ranker_that_is_no_better_than_the_retriever(world: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)the ranker is not better than.*where: ranker.*nDCG@10 0.*`ranker:`"):
        trained(ar2(world, check=True, warm_ranker_steps=0))
    assert not (world / "run" / "report.json").exists()


def test_pairs_with_too_few_candidates_are_told_of_and_none_at_all_is_an_error(world: Path) -> None:
    few = cross_encoder(world, negatives={"per_query": 4, "last_rank": 5}, draws=1)
    made = load_recipe(few, REGISTRY).make(Told())
    assert isinstance(made, CrossEncoding)
    lost, *others = made.data.qrels
    found = {lost: [*OTHERS][:2], **{query: [*OTHERS][:9] for query in others}}
    made.folder.store("candidates", [{"query": query, "documents": own} for query, own in found.items()])
    assert len(made.rows()) == len(others)
    assert made.remarks == [
        f"1 of {1 + len(others)} judged pairs were left out, since their query has fewer unjudged candidates than "
        f"negatives.per_query (queries {lost})"
    ]
    made.folder.store("candidates", [])
    empty = load_recipe(few, REGISTRY).make(Told())
    with pytest.raises(ConfigError, match=r"no training rows could be made(?s:.*)make negatives.per_query smaller"):
        empty.train()


def test_the_recipe_reranks_with_the_candidates_of_its_first_stage(world: Path) -> None:
    made = load_recipe(cross_encoder(world), REGISTRY).make(Told())
    assert isinstance(made, CrossEncoding)
    assert made.prepare() == ["the first stage found candidates of 16 queries"]
    assert made.prepare() == []
    place, query, relevant, negative, *others = made.prepared_examples()
    assert place == f"what was prepared lies in {world / 'run' / 'data'}: candidates.jsonl"
    number = query.removeprefix("query q").partition(":")[0]
    assert query == f"query q{number}: {QUERIES[f'q{number}']}"
    assert relevant == f"  relevant r{number}: {RELEVANT[f'r{number}']}"
    assert negative.startswith("  negative ")
    assert not negative.startswith(f"  negative r{number}:")
    assert len(others) == 6
    assert {len(own) for own in made.negatives().values()} == {12}
