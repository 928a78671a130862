"""Judging 50 queries of examples/debian in the terminal gives the verdict that all of their judgements give."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diptych import Collection
from diptych.cli import app
from diptych.evaluate import Qrels, evaluate, read_beir
from diptych.populate import open_source
from diptych.search import Pipeline, Retrieve
from diptych.types import Query, Run
from diptych_lab.judge import Judgements, Judging

EXAMPLE = Path(__file__).parents[2] / "examples/debian"
CONFIG = f"""\
store: edge:./qdrant
collection: debian
slots:
  lexical: {{adapter: bm25, language: english}}
  letters: {{adapter: bm25, terms: ngrams}}
evaluate: {{queries: {EXAMPLE}/queries.jsonl.gz}}
"""
NAMES = ("lexical", "letters")
DRAWS = 20


def keys_of(judging: Judging, qrels: Qrels) -> str:
    """Judge by the judgements of the set, and return the keys that do the same in the terminal."""
    keys = ""
    while pair := judging.next():
        grade = qrels.judgements[pair.query.id].get(pair.document, 0)
        judging.record(pair, grade)
        keys += str(grade)
    return keys


def outcome_of(runs: Mapping[str, Run], sample: list[Query], qrels: Qrels) -> str:
    """What all judgements of these queries say."""
    judged = qrels.restricted(query.id for query in sample)
    rankings = {name: {query.id: run.rankings[query.id] for query in sample} for name, run in runs.items()}
    base, other = (evaluate(Run(n, own), judged, ["nDCG@10"]).means["nDCG@10"] for n, own in rankings.items())
    return "equal" if abs(other - base) < 1e-9 else "better" if other > base else "worse"


@pytest.mark.slow
def test_the_verdict_of_the_terminal_is_that_of_all_judgements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("diptych.yaml").write_text(CONFIG)
    queries, qrels = read_beir(EXAMPLE)
    with Collection.open(tmp_path / "diptych.yaml") as collection:
        collection.populate(open_source(EXAMPLE / "corpus.jsonl.gz"))
        answers = {n: collection.search_batch(queries, pipeline=Pipeline((Retrieve(n),)), limit=10) for n in NAMES}
    runs = {name: Run.from_hits(name, queries, hits) for name, hits in answers.items()}
    same = 0
    for seed in reversed(range(DRAWS)):  # the command's own seed, 0, comes last
        sample = random.Random(seed).sample(queries, 50)
        judging = Judging(list(runs.values()), sample, Judgements(None), judge="script", seed=seed)
        keys = keys_of(judging, qrels)
        same += judging.verdict().differences[0].outcome == outcome_of(runs, sample, qrels)
    assert same >= 0.95 * DRAWS
    options = [word for name in NAMES for word in ("--only", name)]
    command = ["judge", "mine", *options, "--judge", "script", "--json"]
    answer = CliRunner().invoke(app, command, input=keys)
    assert answer.exit_code == 0
    shown, expected = json.loads(answer.stdout)["verdict"], judging.verdict()
    assert shown["settled"]
    assert shown["judgements"] == expected.judgements
    (told,) = shown["differences"]
    assert (told["name"], told["outcome"]) == ("letters", expected.differences[0].outcome)
    assert (told["low"], told["high"]) == pytest.approx((expected.differences[0].low, expected.differences[0].high))
    judged = read_beir(tmp_path / "mine")[1]
    assert len(judged) <= 50
