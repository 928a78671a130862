"""`diptych evaluate` compares slots, fusion and later stages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from diptych import AdapterSpec, Registry
from diptych.cli.evaluate import Outcome
from diptych.collection.collection import Collection
from diptych.config import load_config
from diptych.errors import SearchError
from diptych.evaluate import Qrels, read_queries
from diptych.evaluate import evaluate as score
from diptych.evaluate.ask import Searched, choose, pipelines_of
from diptych.factory import make
from diptych.search import Pipeline, Retrieve
from diptych.search.pipeline import parts
from diptych.types import Run as Ranked

Run = Callable[..., Any]
QUERIES = {"q1": ("cat on a mat", "cat"), "q2": ("barks at the man", "dog"), "q3": ("hunts mice", "owl")}


@pytest.fixture
def judged(run: Run, config: Path, corpus: Path, tmp_path: Path) -> Run:
    queries = "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, (text, _) in QUERIES.items())
    (tmp_path / "queries.jsonl").write_text(queries + '{"_id": "unjudged", "text": "egg"}\n')
    rows = "".join(f"{key}\t{document}\t1\n" for key, (_, document) in QUERIES.items())
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    config.write_text(config.read_text() + "evaluate: {queries: queries.jsonl, qrels: qrels.tsv, metrics: [nDCG@3]}\n")
    assert run("populate", corpus).code == 0
    return run


def test_the_figures_are_those_of_the_library(judged: Run, config: Path, registry: Registry) -> None:
    found = judged("evaluate", "--json", "--metrics", "nDCG@3,MRR@3").json()
    by_run = {row["run"]: row["means"] for row in found["evaluations"]}
    settings = load_config(config)
    qrels, queries = Qrels.read(str(settings.evaluate.qrels)), read_queries(str(settings.evaluate.queries))[:3]
    with Collection.open(settings, registry=registry) as collection:
        hits = collection.search_batch(queries, limit=3)
    expected = score(Ranked.from_hits("dbsf", queries, hits), qrels, ["nDCG@3", "MRR@3"])
    assert by_run["dbsf"] == pytest.approx(dict(expected.means))
    assert [(row["metric"], row["baseline"]) for row in found["comparisons"]] == [
        ("nDCG@3", "dense"),
        ("MRR@3", "dense"),
    ]


STAGES = """\
  late: {adapter: fake-multivector}
search:
  fuse: {kind: rrf}
  rescore: {slot: late, candidates: 20}
  rerank: [{adapter: fake-reranker, candidates: 5}]
"""


@pytest.fixture
def staged(judged: Run, config: Path, corpus: Path, registry: Registry) -> Mapping[str, Searched]:
    """The parts of a pipeline with a fusion, a rescorer and a reranker, of a collection and under its config's name."""
    config.write_text(
        config.read_text().replace("collection: animals", "collection: staged").replace("search:\n", STAGES)
    )
    assert judged("populate", corpus).code == 0
    with Collection.open(load_config(config), registry=registry) as collection:
        return pipelines_of({"": collection.handle}, ["dbsf"])


def compared(pipelines: Mapping[str, Searched], lost: Mapping[str, int], queries: int = 12) -> Outcome:
    """The comparison of runs that answer all queries but so many of the first."""
    qrels = Qrels({f"q{n}": {"good": 1} for n in range(queries)})
    right, wrong = [("good", 2.0), ("bad", 1.0)], [("bad", 2.0), ("good", 1.0)]
    runs = {name: [wrong] * count + [right] * (queries - count) for name, count in lost.items()}
    rankings = {name: {f"q{n}": own for n, own in enumerate(lists)} for name, lists in runs.items()}
    scored = [score(Ranked(name, own), qrels, ["nDCG@3"]) for name, own in rankings.items()]
    return Outcome({name: pipelines[name] for name in lost}, scored).compared(None, ["nDCG@3"])


LATE, LAST = "rrf > late", "rrf > late > fake-reranker"


def test_a_stage_that_is_shown_to_be_worse_is_advised_against_with_the_change_of_the_config(
    staged: Mapping[str, Searched],
) -> None:
    outcome = compared(staged, {"dense": 0, "lexical": 12, "rrf": 9, LATE: 0, LAST: 10, "dbsf": 12})
    befores = {stage.name: stage.comparison.baseline for stage in outcome.stages}
    assert befores == {"rrf": "dense", LATE: "rrf", LAST: LATE}  # dbsf is not of the config
    fusion, rerank = outcome.advice
    assert fusion.startswith("rrf is worse than dense (nDCG@3 -0.277 [")
    assert fusion.endswith(
        "): search by dense alone, search: {retrieve: {dense: 100}}, or let diptych tune search find weights"
    )
    assert rerank.endswith("): take fake-reranker out of search.rerank")


def test_a_stage_that_is_not_shown_to_help_is_advised_against_or_more_judgements(
    staged: Mapping[str, Searched],
) -> None:
    outcome = compared(staged, {"dense": 9, "lexical": 12, "rrf": 0, LATE: 1})
    (late,) = outcome.advice
    assert late.startswith("rrf > late is not shown to be better than rrf (nDCG@3 -0.031 [")
    change = "search: {rescore: null, retrieve: {dense: 100, lexical: 100}}"
    assert late.endswith(f"): judge more queries, or leave it out, {change}")


def test_stages_are_compared_only_with_runs_that_are_there(staged: Mapping[str, Searched]) -> None:
    assert compared(staged, {"dense": 0, "rrf": 12, LAST: 12}).stages == []  # neither `lexical` nor the rescorer


def test_each_stage_is_shown_with_its_interval_and_the_time_of_a_query(
    staged: Mapping[str, Searched], judged: Run
) -> None:
    found = judged("evaluate", "--json").json()
    assert [(row["run"], row["before"]) for row in found["stages"]] == [
        ("rrf", "dense"),
        (LATE, "rrf"),
        (LAST, LATE),
    ]
    assert all(low <= row["mean"] <= high for row in found["stages"] for low, high in [row["interval"]])
    assert all(time > 0 for row in found["stages"] for time in row["milliseconds"])
    assert "a query before" in judged("evaluate").out


def test_a_metric_does_not_depend_on_how_deep_other_metrics_read(judged: Run, config: Path, tmp_path: Path) -> None:
    twins = [json.dumps({"id": f"twin{n}", "text": "a twin is like the other"}) for n in range(9)]
    (tmp_path / "twins.jsonl").write_text("\n".join(twins))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "twin"}\n{"_id": "p", "text": "the other twin"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\ttwin8\t1\np\ttwin4\t1\n")
    config.write_text(
        config.read_text().replace("limit: 3", "limit: 1").replace("collection: animals", "collection: twins")
    )
    assert judged("populate", "twins.jsonl").code == 0
    shallow, deep = (judged("evaluate", "-m", names, "--json").json()["evaluations"] for names in ("P@1", "P@1,P@9"))
    assert [row["means"]["P@1"] for row in shallow] == [row["means"]["P@1"] for row in deep] == [0.5, 0.5, 0.5]


def test_a_run_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(SearchError, match=r"(?s)no run 'denze'.*expected: 'dense'.*did you mean 'dense'"):
        choose(parts(Pipeline((Retrieve("dense"),))), ["denze"])
    runs = {"a: dense": 1, "a: dbsf": 2, "b: dbsf": 3}
    with pytest.raises(SearchError, match=r"do: name its config, too: 'a: dbsf' or 'b: dbsf'"):
        choose(runs, ["dbsf"])


def test_the_pipelines_of_several_configs_are_compared_in_one_run_with_models_loaded_once(
    judged: Run, config: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = config.read_text()
    (tmp_path / "ranks.yaml").write_text(text.replace("search:\n", "search:\n  fuse: {kind: rrf, k: 60}\n"))
    (tmp_path / "lone.yaml").write_text(
        text.replace("collection: animals", "collection: other").replace("  lexical: {adapter: fake-sparse}\n", "")
    )
    assert judged("populate", corpus, "--config", "lone.yaml").code == 0
    created: list[str] = []

    def counted(spec: AdapterSpec, *args: Any, **options: Any) -> Any:
        created.append(spec.name)
        return make(spec, *args, **options)

    monkeypatch.setattr("diptych.registry.make", counted)
    options = [word for name in ("diptych", "ranks", "lone") for word in ("--config", f"{name}.yaml")]
    found = judged("evaluate", *options, "--json").json()
    assert [row["run"] for row in found["evaluations"]] == [
        "diptych: dense", "diptych: lexical", "diptych: dbsf", "ranks: rrf", "lone: dense",
    ]  # fmt: skip
    assert found["comparisons"][0]["baseline"] in ("diptych: dense", "diptych: lexical", "lone: dense")
    assert created.count("fake-dense") == 1
    means = {row["run"]: row["means"] for row in found["evaluations"]}
    assert (
        means["diptych: dense"]
        == means["lone: dense"]
        == judged("evaluate", "--config", "lone.yaml", "--json").json()["evaluations"][0]["means"]
    )
