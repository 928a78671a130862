"""Judging without a model: pools, order, stopping, undo and resume, files, agreement."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chat_server import chat_server
from diptych.errors import ConfigError, EvaluationError
from diptych.evaluate import Qrels, evaluate, read_beir
from diptych.generation import JudgeRequest
from diptych.hookspecs import hookimpl
from diptych.registry import Registry
from diptych.types import Query, Run
from diptych_lab.judge import Judgements, Judging, ModelJudge, SecondJudging, agreements, confidence_sequence, kappa
from diptych_lab.judge.judging import Pool
from diptych_training import hooks

RELEVANT = {f"q{n:02}": f"d{n:02}" for n in range(40)}
QUERIES = [Query(f"words of {name}", name) for name in RELEVANT]


def run_with(name: str, ranks: Mapping[str, int]) -> Run:
    """A run that has each query's relevant document at a rank from 1, others around it."""
    rankings = {}
    for query, document in RELEVANT.items():
        others = [f"{query}-{n}" for n in range(9)]
        ranked = [*others[: ranks[query] - 1], document, *others[ranks[query] - 1 :]]
        rankings[query] = [(own, 1 / rank) for rank, own in enumerate(ranked, 1)]
    return Run(name, rankings)


GOOD, BAD = run_with("good", dict.fromkeys(RELEVANT, 1)), run_with("bad", dict.fromkeys(RELEVANT, 8))


def grade_of(query: str, document: str) -> int:
    return 3 if RELEVANT[query] == document else 0


def judge_all(judging: Judging | SecondJudging, most: int = 10_000) -> int:
    count = 0
    while count < most and (pair := judging.next()):
        judging.record(pair, grade_of(pair.query.id, pair.document))
        count += 1
    return count


def judging_of(judgements: Judgements, runs: Sequence[Run] = (GOOD, BAD), **options: object) -> Judging:
    return Judging(runs, QUERIES, judgements, judge="anna", **options)  # type: ignore[arg-type]


def test_it_stops_when_the_comparison_is_settled_and_says_which_is_better() -> None:
    judging = judging_of(Judgements(None), baseline="bad")
    count = judge_all(judging)
    verdict = judging.verdict()
    assert verdict.is_settled
    assert verdict.judged < len(QUERIES) / 2
    assert count == verdict.judgements == 10 * verdict.judged
    assert verdict.differences[0].outcome == "better"
    assert verdict.differences[0].low > 0
    assert f"good is better than bad on these {len(QUERIES)} queries: nDCG@10 +0.685 [" in verdict.sentence
    assert "(95% at any stopping point)" in verdict.sentence


def test_all_judged_the_interval_is_the_difference_itself() -> None:
    chance = random.Random(3)
    other = run_with("other", {query: chance.choice((1, 2)) for query in RELEVANT})
    mixed = run_with("mixed", {query: chance.choice((1, 2)) for query in RELEVANT})
    judgements = Judgements(None)
    judging = judging_of(judgements, (other, mixed), complete=True)
    judge_all(judging)
    verdict = judging.verdict()
    means = [evaluate(run, judgements.qrels(), ["nDCG@10"]).means["nDCG@10"] for run in (other, mixed)]
    judged = [query for query in RELEVANT if query in judgements.pools]
    assert verdict.judged == len(QUERIES)
    assert verdict.differences[0].low == verdict.differences[0].high == verdict.differences[0].mean
    assert verdict.differences[0].mean == pytest.approx((means[1] - means[0]) * len(judged) / len(QUERIES))
    assert len(judged) < len(QUERIES), "where both runs are equal, nothing is judged"


def test_nothing_shown_depends_on_the_side_or_the_rank() -> None:
    one, other = judging_of(Judgements(None)), judging_of(Judgements(None), (BAD, GOOD))
    orders = []
    for judging in (one, other):
        pairs = list(itertools.islice(iter(judging.next, None), 1))
        orders.append([(query.id, name) for query, name in judging.pending])
        assert set(pairs[0].__slots__) == {"query", "document", "number", "left"}
    assert orders[0] == orders[1]
    positions = [[name for q, name in orders[0] if q == query].index(name) for query, name in RELEVANT.items()]
    assert len(set(positions)) > 4, "the relevant document is anywhere among those of its query"
    another = judging_of(Judgements(None), seed=1)
    assert [query.id for query in another.queries] != [query.id for query in one.queries]


def test_a_session_is_resumed_from_its_folder_and_undone_step_by_step(tmp_path: Path) -> None:
    first = judging_of(Judgements(tmp_path))
    judge_all(first, 25)
    upcoming = first.next()
    assert first.verdict().judgements == 25, "those of the query that is judged in part count too"
    again = judging_of(Judgements(tmp_path))
    assert again.next() == upcoming
    assert again.undo()
    assert again.next() != upcoming
    last = again.next()
    assert last is not None
    again.record(last, grade_of(last.query.id, last.document))
    assert again.next() == upcoming
    lines = [json.loads(line) for line in (tmp_path / "judgements.jsonl").read_text().splitlines()]
    assert all(line["judge"] == "anna" and line["time"].endswith("+00:00") for line in lines)
    assert sum(line.get("undo", False) for line in lines) == 1


def test_a_line_that_a_kill_cut_off_is_dropped_and_another_broken_one_is_named(tmp_path: Path) -> None:
    judge_all(judging_of(Judgements(tmp_path)), 3)
    log = tmp_path / "judgements.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"query": "q0')
    Judgements(tmp_path)
    assert log.read_bytes() == whole
    for line in (b"what", b"[" * 100_000):
        log.write_bytes(line + b"\n" + whole)
        with pytest.raises(EvaluationError, match=rf"(?s)not a judgement.*line 1.*got: {re.escape(line[:9].decode())}"):
            Judgements(tmp_path)


def test_a_last_line_that_an_editor_did_not_end_is_kept(tmp_path: Path) -> None:
    Judgements(tmp_path).add("q", "d", 1, judge="anna")
    log = tmp_path / "judgements.jsonl"
    log.write_text(log.read_text() + '{"query": "q", "document": "e", "grade": 2, "judge": "anna"}')
    Judgements(tmp_path).add("q", "f", 3, judge="anna")
    assert Judgements(tmp_path).grades["anna"] == {("q", "d"): 1, ("q", "e"): 2, ("q", "f"): 3}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"grade": 7}, "at most 3"),
        *(({"grade": value}, "a whole number") for value in ("2", 1.5, True)),
        ({"document": 5}, "text"),
        ({"judge": None}, "text"),
        ({"undo": 2}, "True"),
        ({"pool": "d"}, "a list"),
        ({"agreement": {"kappa": 1}}, "a value"),
        ({"grade": ...}, "a value"),
    ],
)
def test_what_was_edited_by_hand_and_cannot_be_is_named(tmp_path: Path, changed: dict[str, Any], expected: str) -> None:
    Judgements(tmp_path).add("q", "d", 1, judge="anna")
    log = tmp_path / "judgements.jsonl"
    event = {name: value for name, value in {**json.loads(log.read_text()), **changed}.items() if value is not ...}
    log.write_text(log.read_text() + json.dumps(event) + "\n")
    with pytest.raises(EvaluationError) as raised:
        Judgements(tmp_path)
    assert str(raised.value.where).endswith("judgements.jsonl, line 2")
    assert (next(iter(changed)) in raised.value.got, expected in raised.value.expected) == (True, True)


def test_what_is_saved_is_read_by_evaluate_without_the_query_under_way(tmp_path: Path) -> None:
    judgements = Judgements(tmp_path)
    judging = judging_of(judgements)
    judge_all(judging, 27)
    assert judging.queries[2].id not in judgements.qrels().queries
    qrels = judgements.save(QUERIES)
    queries, read = read_beir(tmp_path)
    assert read.judgements == qrels.judgements
    assert {query.id for query in queries} == {query.id for query in judging.queries[:2]}
    assert all(read.relevant(query) == {RELEVANT[query]} for query in read.queries)


def test_skipped_documents_count_as_not_relevant_and_are_counted() -> None:
    judgements = Judgements(None)
    judging = judging_of(judgements)
    while pair := judging.next():
        judging.record(pair, None if grade_of(pair.query.id, pair.document) else 0)
    verdict = judging.verdict()
    assert verdict.skipped == verdict.judged == len(QUERIES)
    assert verdict.differences[0].outcome == "equal"
    assert "400 judgements, 40 of them skipped" in verdict.sentence
    assert not any(RELEVANT[query] in grades for query, grades in judgements.qrels().judgements.items())


def test_what_cannot_be_judged_or_compared_is_refused(tmp_path: Path) -> None:
    judging = judging_of(Judgements(None))
    pair = judging.next()
    assert pair is not None
    kept = Judgements(tmp_path / "kept")
    kept.note([Query("the cat", "1"), Query("the dog", "2")])
    few = Judgements(None)
    judge_all(judging_of(few), 5)
    registry = Registry(Models, installed=False)
    cases: tuple[Callable[[], object], ...] = (
        *(partial(judging.record, pair, grade) for grade in (4, -1, True)),
        lambda: judging.pair(pair.query.id, "unicorn"),
        lambda: judging_of(Judgements(None), (GOOD,)),
        lambda: judging_of(Judgements(None), metric="MAP"),
        lambda: judging_of(Judgements(None), (GOOD, Run("none", {}))),
        lambda: kappa([1, 2], [1]),
        lambda: kept.note([Query("the hen", "2")]),
        lambda: ModelJudge("knows", {}, registry).agree(few, QUERIES, TEXTS),
    )
    for refused in cases:
        with pytest.raises(EvaluationError):
            refused()
    with pytest.raises(ConfigError):  # an address that nobody named
        ModelJudge("chat", {"model": "gpt"}, registry)
    assert [query.text for query in kept.queries()] == ["the cat", "the dog"]


# the interval


def test_the_interval_errs_at_most_as_often_as_stated_wherever_one_stops() -> None:
    chance, misses = random.Random(0), 0
    for _ in range(60):
        bounds = [chance.uniform(0.05, 1) for _ in range(30)]
        values = [bound * chance.choice((-0.6, 0.0, 0.0, 0.2, 1.0)) for bound in bounds]
        mean = sum(values) / len(values)
        order = sorted(range(30), key=lambda n: chance.expovariate(1) / bounds[n])
        drawn, known = [values[n] for n in order], [bounds[n] for n in order]
        intervals = [confidence_sequence(drawn[:n], bounds=known, error=0.2) for n in range(2, 31, 4)]
        misses += not all(low - 1e-9 <= mean <= high + 1e-9 for low, high in intervals)
        assert intervals[-1][0] == intervals[-1][1] == pytest.approx(mean)
    assert misses <= 0.2 * 60


def test_of_all_queries_the_interval_is_wider_and_narrows_with_their_number() -> None:
    values = [0.5, 0.0, 0.3, 0.1] * 10
    these = confidence_sequence(values[:20], bounds=[1.0] * 40, error=0.05)
    general = confidence_sequence(values[:20], bounds=None, error=0.05)
    later = confidence_sequence(values, bounds=None, error=0.05)
    assert these[1] - these[0] < general[1] - general[0]
    assert later[1] - later[0] < general[1] - general[0]
    assert confidence_sequence([], bounds=None, error=0.05) == (-1, 1)


def test_no_grades_move_two_rankings_further_apart_than_the_bound_says() -> None:
    chance, names = random.Random(0), [f"d{n}" for n in range(8)]
    for _ in range(20):
        sides = [chance.sample(names, 5) for _ in "ab"]
        runs = [Run(side, {"q": [(d, -n) for n, d in enumerate(own)]}) for side, own in zip("ab", sides, strict=True)]
        pool = Pool.of(Query("q", "q"), "a", runs, "nDCG@5", seed=0)
        differences = []
        for _ in range(30):
            qrels = Qrels({"q": {name: chance.choice((0, 0, 1, 3)) for name in names}})
            means = [evaluate(run, qrels, ["nDCG@5"]).means["nDCG@5"] for run in runs]
            differences.append(abs(means[0] - means[1]))
        assert max(differences) <= pool.bound + 1e-9


# several judges


def test_kappa_is_that_of_the_formula() -> None:
    """Computed by hand: 10 pairs, 7 equal; by chance .34 are."""
    first, second = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 1, 1, 1, 2, 3, 3, 2]
    equal, chance = 0.7, (4 * 3 + 2 * 3 + 2 * 2 + 2 * 2) / 100
    assert kappa(first, second, weights="none") == pytest.approx((equal - chance) / (1 - chance))
    assert kappa(first, first) == 1.0
    assert kappa([0, 3, 0, 3], [3, 0, 3, 0]) == pytest.approx(-1.0)
    assert kappa(first, second) > kappa(first, second, weights="linear") > kappa(first, second, weights="none")


def test_a_second_judge_grades_pairs_of_the_first_and_the_lower_median_counts() -> None:
    judgements = Judgements(None)
    judge_all(judging_of(judgements), 60)
    second = SecondJudging(judgements, QUERIES, judge="bob", count=30)
    while pair := second.next():
        second.record(pair, max(0, grade_of(pair.query.id, pair.document) - 1))
    (found,) = agreements(judgements)
    assert (found.judges, found.pairs) == (("anna", "bob"), 30)
    assert found.same < 1
    assert found.plain <= found.linear <= found.quadratic
    query, document = next(pair for pair, grade in judgements.grades["bob"].items() if grade == 2)
    assert judgements.grade(query, document) == 2
    assert SecondJudging(judgements, QUERIES, judge="bob", count=30).next() is None


class Models:
    """A generator that knows the truth, and one that does not."""

    @staticmethod
    @hookimpl
    def diptych_judge(request: JudgeRequest) -> list[float] | None:
        assert "Answer with one whole number" in request.prompt
        truth = [1.0 if RELEVANT[query.split()[-1]] == text else 0.0 for query, text in request.pairs]
        return {"knows": truth, "errs": [1 - value for value in truth]}.get(request.generator)


TEXTS = {name: name for ranking in GOOD.rankings.values() for name, _ in ranking}


def test_a_model_counts_only_once_it_agrees_with_people() -> None:
    registry, judgements = Registry(Models, installed=False), Judgements(None)
    judging = judging_of(judgements, general=True)
    judge_all(judging, 40)
    for name, accepted in (("errs", False), ("knows", True)):
        model = ModelJudge(name, {}, registry)
        agreement = model.agree(judgements, QUERIES, TEXTS)
        assert (agreement.pairs, agreement.accepted) == (40, accepted)
        assert agreement.kappa == (1.0 if accepted else pytest.approx(agreement.kappa, abs=1))
        before = len(judging.pending)
        model.judge(judgements, judging.pending[:10], TEXTS)
        assert len(judging.pending) == (before - 10 if accepted else before)
    assert judgements.people() == ["anna"]


def test_a_model_behind_an_openai_compatible_endpoint_is_sent_the_prompt_and_nothing_else() -> None:
    def say(body: dict[str, Any]) -> str:
        query, text = body["messages"][1]["content"].split("\n\n")
        return "100" if RELEVANT[query.split()[-1]] == text.removeprefix("Text: ") else "0"

    judgements = Judgements(None)
    judge_all(judging_of(judgements), 40)
    with chat_server(say) as server:
        options = {"base_url": server.url, "model": "tiny"}
        model = ModelJudge("chat", options, Registry(hooks, installed=False))
        agreement = model.agree(judgements, QUERIES, TEXTS)
    assert (agreement.kappa, agreement.pairs, agreement.accepted) == (1.0, 40, True)
    assert model.name == "chat tiny"
    assert f"chat tiny at {server.url} is asked:" in model.description
    prompts = {body["messages"][0]["content"] for body in server.bodies}
    assert len(prompts) == 1
    assert prompts.pop() in model.description
    assert len(server.bodies) == 40


def test_a_folder_is_of_the_collections_that_were_judged_in_it(tmp_path: Path) -> None:
    judgements = Judgements(tmp_path / "kept")
    judgements.add("q", "d", 1, judge="anna")  # as an older version leaves it: without the note
    Judgements(tmp_path / "kept").note_collections(["debian"])
    judgements.note_collections(["debian", "copy of debian"])
    judgements.note_collections(["copy of debian"])
    with pytest.raises(
        EvaluationError, match=r"(?s)of another collection.*got: emoji.*expected: debian or copy of debian"
    ):
        judgements.note_collections(["emoji"])
    assert json.loads((tmp_path / "kept/manifest.json").read_text()) == {"collections": ["debian", "copy of debian"]}
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["judgements.jsonl", "manifest.json"]
    Judgements(None).note_collections(["emoji"])


def test_of_two_that_begin_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def later(source: Path, target: Path) -> None:
        target.write_text('{"collections": ["debian"]}')  # by another process
        link(source, target)

    monkeypatch.setattr(os, "link", later)
    with pytest.raises(EvaluationError, match="expected: debian"):
        Judgements(tmp_path).note_collections(["emoji"])
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"collections": []}', '{"collections": "debian"}', '{"collections": [1]}']
)
def test_a_note_that_cannot_be_read_is_no_reason_to_mix(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(EvaluationError, match=r"(?s)cannot be read.*manifest.json.*do: fix it"):
        Judgements(tmp_path).note_collections(["debian"])


def test_a_grade_that_cannot_be_stored_is_not_kept_in_memory_either(tmp_path: Path) -> None:
    judgements = Judgements(tmp_path / "kept")
    judgements.add("q", "d", 1, judge="anna")
    (tmp_path / "kept/judgements.jsonl").rename(tmp_path / "away")
    (tmp_path / "kept/judgements.jsonl").mkdir()
    with pytest.raises(EvaluationError, match=r"(?s)cannot be stored.*got: Is a directory"):
        judgements.add("q", "e", 2, judge="anna")
    assert judgements.grades == {"anna": {("q", "d"): 1}}


def test_the_qrels_of_the_only_query_go_with_its_last_grade(tmp_path: Path) -> None:
    judgements = Judgements(tmp_path / "kept")
    judgements.pool("q", ["d"], judge="anna")
    judgements.add("q", "d", 1, judge="anna")
    assert len(judgements.save([Query("words", "q")])) == 1
    judgements.undo(judge="anna")
    assert not len(judgements.save([Query("words", "q")]))
    assert not (tmp_path / "kept/qrels/test.tsv").exists()
