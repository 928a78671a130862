"""What every recipe does alike, asked of all of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from diptych.errors import ConfigError
from diptych.training import load_recipe
from every_recipe import COUNT, MASKED, RECIPES, REGISTRY, made, options_of
from tiny_encoders import WORDS
from tiny_training import Told, lines

pytestmark = pytest.mark.slow

WRITTEN = {"styles": ["keywords", "first"], "documents": 6, "density": 2}
LORA = {"rank": 2, "modules": ["query", "value"]}


@pytest.mark.parametrize("recipe", sorted({*RECIPES} - {"ar2", "prototype_tuning", "student"}))
def test_adapters_change_the_layers_that_they_are_for_and_what_is_new(recipe: str, world: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = made(options_of(recipe, world, run, lora=LORA, epochs=1), Told()).train()
    assert report.steps > 0
    start = world / ("masked" if recipe in MASKED else "dense")
    before, after = load_file(start / "model.safetensors"), load_file(run / "model.safetensors")
    assert after.keys() - before.keys() == NEW.get(recipe, set())
    changed = {name for name in after.keys() & before.keys() if not torch.allclose(after[name], before[name])}
    assert {name.split(".")[-2] for name in changed} == {"query", "value"}


NEW = {
    "cross_encoder": {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    },
    "uni_encoder": {"classifier.weight", "classifier.bias"},
}


@pytest.mark.parametrize(
    ("recipe", "section", "message"),
    [
        ("elastic", {"elastic": {"layers": [2, 9]}}, r"where: elastic\.layers\n  got: 9\n  expected: 1 to 2"),
        (
            "elastic",
            {"elastic": {"layers": [1], "widths": [8, 99]}},
            r"where: elastic\.widths\n  got: 99\n  expected: 1 to 32",
        ),
        ("multi_exit", {"exits": {"layers": [9]}}, r"where: exits\.layers\n  got: 9\n  expected: 1 to 2"),
    ],
)
def test_layers_and_widths_that_the_model_has_not_are_refused_before_any_text_is_encoded(
    recipe: str, section: dict[str, Any], message: str, world: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        made({**options_of(recipe, world, tmp_path / "run"), **section}, Told()).prepare()
    assert not (tmp_path / "run" / "data").exists()


PIECES, CUT = {"training": {"mini_batch_size": 4}}, {"data": {"synthetic": {**WRITTEN, "cut": True}}}
IDLE, NOTHING = {"training": {"patience": 2}}, {"negatives": {"per_query": 0}}
PROMPTED = {"prompts": {"query": "word30 "}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("prototype_tuning", {"training": {"lora": LORA}}, "the encoder is frozen: training.lora"),
    ("student", {"training": {"lora": LORA}}, "training.lora is for models with layers"),
    ("prototype_tuning", PIECES, "the encoder is frozen: training.lora and training.mini_batch_size"),
    ("cmim", PIECES, "training.mini_batch_size does not go with a decoder"),
    ("multi_exit", PIECES, "training.mini_batch_size does not go with several exits"),
    ("elastic", PIECES, "training.mini_batch_size does not go with several exits"),
    ("student", PIECES, "training.mini_batch_size does not go with a student"),
    ("splade", PIECES, "training.mini_batch_size does not go with FLOPS"),
    ("unidec", PIECES, "training.mini_batch_size is not for unidec"),
    ("uni_encoder", PIECES, "training.mini_batch_size is not for uni_encoder"),
    ("ar2", {"training": {"lora": LORA}}, "training.lora is not for ar2"),
    ("ar2", PIECES, "training.mini_batch_size is not for ar2"),
    ("ar2", {"negatives": {"last_rank": 30}}, "negatives.last_rank: rounds take the retriever's best"),
    ("ar2", CUT, "data.synthetic.cut is not for this recipe"),
    ("ar2", NOTHING, "negatives.per_query"),
    ("distill", NOTHING, "negatives.per_query"),
    ("dexml", CUT, "data.synthetic.cut is not for this recipe"),
    ("unidec", CUT, "data.synthetic.cut is not for this recipe"),
    ("cmim", {**IDLE, "data": {"queries": None, "qrels": None}}, "training.patience needs held-out data"),
    ("contrastive", {**IDLE, "data": {"dev": {"share": 0}}}, "training.patience needs held-out data"),
    ("prototype_tuning", {**IDLE, "data": {"dev": {"share": 0}}}, "training.patience needs held-out data"),
    ("contrastive", {"negatives": {"slot": "dense"}}, "negatives.slot needs data.collection"),
    ("cprd", {"negatives": {"last_rank": 50}}, "negatives.last_rank: none is mined with teacher.scores"),
    ("cprd", NOTHING, "negatives.per_query"),
    ("cross_encoder", NOTHING, "negatives.per_query"),
    ("uni_encoder", NOTHING, "negatives.per_query"),
    ("uni_encoder", {"negatives": {"relative": 0.9}}, r"negatives.relative is not for rerankers"),
    ("uni_encoder", {"query_length": 30}, "query_length is at most training.max_length - 8, 24 here"),
    ("uni_encoder", {"attention": "round"}, "attention(?s:.*)'isolated', 'arrow' or 'square'"),
    ("uni_encoder", {"training": {"max_length": None}}, "training.max_length is at least 16"),
    ("dexml", {"negatives": {"per_query": 2}}, "leave the section out, see pool"),
    ("cross_encoder", PROMPTED, "prompts are not for cross_encoder, which reads pairs: leave them out"),
    ("prototype_tuning", PROMPTED, "prompts are not for prototype_tuning, which learns its own"),
]


@pytest.mark.parametrize(("recipe", "changes", "told"), REFUSED, ids=[f"{own[0]}: {own[2]}" for own in REFUSED])
def test_options_that_do_not_go_with_a_recipe_are_refused(
    recipe: str, changes: dict[str, Any], told: str, world: Path, tmp_path: Path
) -> None:
    given = options_of(recipe, world, tmp_path / "run")
    made(given, Told())
    changed = {n: {**given.get(n, {}), **own} if isinstance(own, dict) else own for n, own in changes.items()}
    with pytest.raises(ConfigError, match=told):
        made({**given, **changed}, Told())


@pytest.mark.parametrize("recipe", ["contrastive", "cprd", "dexml", "distill"])
def test_batches_in_pieces_end_with_the_same_weights(recipe: str, world: Path, tmp_path: Path) -> None:
    """But for dropout, which every piece draws anew."""
    start = Path(shutil.copytree(world / "dense", tmp_path / "dense"))
    config = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.0}))
    ends: list[dict[str, torch.Tensor]] = []
    for size in (None, 4):
        run = tmp_path / f"pieces-{size}"
        given = options_of(recipe, world, run, mini_batch_size=size, epochs=1)
        no_negatives = {"negatives": {"per_query": 0}} if recipe == "contrastive" else {}
        made({**given, "model": str(start), **no_negatives}, Told()).train()
        ends.append(load_file(run / "model.safetensors"))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4)


def test_every_step_is_computed_in_bfloat16_before_and_after_evaluations(world: Path, tmp_path: Path) -> None:
    from diptych_training.recipes.contrastive import Contrastive

    class Watched(Contrastive):
        def model(self) -> Any:
            model = super().model()
            layer = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
            layer.register_forward_hook(lambda own, given, found: seen.append((own.training, found.dtype)))
            models.append(model)
            return model

    seen: list[tuple[bool, torch.dtype]] = []
    models: list[Any] = []
    options = load_recipe(options_of("contrastive", world, tmp_path / "run", precision="bfloat16"), REGISTRY).options
    Watched(options, Told()).train()  # type: ignore[arg-type]
    assert {training for training, _ in seen} == {True, False}
    assert {kind for _, kind in seen} == {torch.bfloat16}
    models[-1].encode(["word1"])
    assert seen[-1][1] == torch.float32, "what was wrapped for the training is unwrapped after it"


@pytest.mark.parametrize("recipe", RECIPES)
def test_judgements_that_are_left_out_are_said_by_prepare(recipe: str, world: Path, tmp_path: Path) -> None:
    given = options_of(recipe, world, tmp_path / "run")
    first = Path(given["data"]["qrels"]).read_text().splitlines()[1].split("\t")[1]
    qrels = Path(shutil.copy(given["data"]["qrels"], tmp_path / "qrels.tsv"))
    qrels.write_text(f"{qrels.read_text()}lost\t{first}\t1\nq0\tno-such-doc\t1\n")
    training = made({**given, "data": {**given["data"], "qrels": str(qrels)}}, Told())
    told = (
        f"2 of {COUNT + 2} judgements left out: 1 query is not in queries.jsonl (lost), "
        "1 document not in the corpus (no-such-doc)"
    )
    assert training.prepare()[0] == told
    if recipe == "contrastive":
        assert training.train().remarks.count(told) == 1
        assert training.prepare() == [], "a run that is done has said it"


RETRIEVAL = sorted({*RECIPES} - {"cmim", "prototype_tuning", "elastic", "student"})


@pytest.mark.parametrize("recipe", RETRIEVAL)
def test_queries_are_written_for_every_recipe_of_judged_queries(recipe: str, world: Path, tmp_path: Path) -> None:
    given = options_of(recipe, world, tmp_path / "run")
    given["data"] |= {"synthetic": WRITTEN}
    recipe_made = made(given, Told())
    recipe_made.prepare()
    rows = recipe_made.folder.stored("synthetic")
    assert rows is not None
    assert 0 < len(rows) <= 12


def test_what_scores_are_stored_of_are_the_candidates(world: Path, tmp_path: Path) -> None:
    """However unlike they are to what the model would find."""
    far = {f"q{n}": [f"d{(n + k) % COUNT}" for k in (9, 10, 11, 12)] for n in range(COUNT)}
    scores = {query: {f"d{query[1:]}": 4.0, **{d: 1.0 / k for k, d in enumerate(own, 1)}} for query, own in far.items()}
    lines(tmp_path / "own.jsonl", [{"query": query, "scores": own} for query, own in scores.items()])
    stored = {"teacher": {"scores": str(tmp_path / "own.jsonl")}, "negatives": {"per_query": 3}}
    given = {**options_of("cprd", world, tmp_path / "run"), **stored}
    made_of = made(given, Told())
    made_of.prepare()
    assert made_of.negatives() == {query: own for query, own in far.items() if query in made_of.data.qrels}
    rows = made_of.rows()
    assert len(rows) == len(made_of.data.qrels)
    assert all("of the teacher" in remark for remark in made_of.remarks), "nothing was left out"


@pytest.mark.parametrize("recipe", ["contrastive", "cross_encoder", "cprd"])
def test_a_document_that_is_gone_when_the_training_starts_is_left_out_with_a_remark(
    recipe: str, world: Path, tmp_path: Path
) -> None:
    there = Path(shutil.copytree(world, tmp_path / "world"))
    given = options_of(recipe, there, tmp_path / "run", epochs=1)
    given["data"] |= {"synthetic": WRITTEN} if recipe == "contrastive" else {}
    first = made(given, Told())
    first.prepare()
    gone = next(iter(first.negatives().values()))[0]
    documents = [json.loads(line) for line in (there / "corpus.jsonl").read_text().splitlines()]
    lines(there / "corpus.jsonl", [row for row in documents if row["_id"] != gone])
    again = made(given, Told())
    rows = again.rows()
    assert len(rows) > 0
    assert any("1 documents of data/" in remark and "no longer there" in remark for remark in again.remarks)
    assert all(gone not in own for own in again.negatives().values())


def test_synthetic_queries_that_are_held_out_have_documents_of_their_own(world: Path, tmp_path: Path) -> None:
    given = options_of("contrastive", world, tmp_path / "run")
    texts = [f"{WORDS[n]} {WORDS[n + 1]}. {WORDS[n + 2]} {WORDS[n + 3]}." for n in range(COUNT)]
    lines(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": text} for n, text in enumerate(texts)])
    written = {"styles": ["claim"], "documents": COUNT, "density": 2}
    given["data"] = {"corpus": str(tmp_path / "corpus.jsonl"), "dev": {"share": 0.3}, "synthetic": written}
    recipe = made(given, Told())
    trained, held = ({name for own in part.qrels.values() for name in own} for part in (recipe.data, recipe.held))
    assert len(recipe.data.qrels) > len(trained) > 0, "several queries of a document"
    assert len(held) == round(0.3 * len(trained | held))
    assert not trained & held


@pytest.mark.parametrize(
    ("recipe", "new"),
    [("cross_encoder", "classifier."), ("uni_encoder", "classifier."), ("unidec", "2_Dense"), ("contrastive", "")],
)
def test_a_share_of_the_untrained_model_leaves_alone_what_began_at_random(
    recipe: str, new: str, world: Path, tmp_path: Path
) -> None:
    plain, mixed = (
        made(
            options_of(recipe, world, tmp_path / f"{share}", epochs=1, evaluate_every=100, untrained_share=share),
            Told(),
        )
        for share in (0, 0.5)
    )
    folders = [Path(recipe.train().folder) for recipe in (plain, mixed)]
    changed = {name for name, value in weights(folders[0]).items() if not torch.equal(value, weights(folders[1])[name])}
    assert any("query" in name for name in changed)
    assert not new or (any(name.startswith(new) for name in weights(folders[0])))
    assert not any(name.startswith(new) for name in changed if new)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a saved model, by file and name."""
    files = sorted(folder.glob("**/model.safetensors"))
    found: dict[str, torch.Tensor] = {}
    for file in files:
        above = "" if file.parent == folder else f"{file.parent.relative_to(folder)}/"
        found |= {f"{above}{name}": value for name, value in load_file(file).items()}
    return found


@pytest.mark.parametrize(
    ("rate", "what"), [(1e30, "the loss is not a finite number"), (1e39, "weights are no finite numbers")]
)
def test_a_training_that_diverges_is_an_error_and_its_checkpoints_are_whole(
    rate: float, what: str, world: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    given = options_of("contrastive", world, run, learning_rate=rate, warmup=0, evaluate_every=1)
    with pytest.raises(ConfigError, match=f"{what}(?s:.*)lower training.learning_rate"):
        made(given, Told()).train()
    assert not (run / "report.json").exists()
    for path in run.glob("checkpoints/*/training.safetensors"):
        assert all(torch.isfinite(value).all() for value in load_file(path).values())


def test_a_loss_is_logged_as_it_is(world: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    made(options_of("contrastive", world, run, epochs=1), Told()).train()
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(entry["loss"] > 0 for entry in logged if "loss" in entry)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "1.5", True, None])
def test_a_stored_score_that_is_no_number_is_named_with_its_line(score: Any, world: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    lines(path, [{"query": "q0", "scores": {"d0": 1.0}}, {"query": "q1", "scores": {"d0": 1, "d1": score}}])
    with pytest.raises(ConfigError, match=r"a score is not a finite number(?s:.*)scores.jsonl:2(?s:.*)of document d1"):
        prepared(world, tmp_path / "run", path)


def test_stored_scores_that_are_not_there_are_a_config_error(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the stored scores cannot be read(?s:.*)teacher.scores(?s:.*)none.jsonl"):
        prepared(world, tmp_path / "run", tmp_path / "none.jsonl")


def prepared(world: Path, run: Path, scores: Path) -> list[str]:
    given = {**options_of("cprd", world, run), "teacher": {"scores": str(scores)}}
    done: list[str] = made(given, Told()).prepare()
    return done


CHECKPOINTS = {"ar2": "round-1/round.json"}  # of the others the trainer's, whose last file this is:
WHOLE = "checkpoint-*/trainer_state.json"


class Stopped(Told):
    """A watcher that stops a training at the second step after a checkpoint, which the pattern finds once whole."""

    def __init__(self, checkpoints: Path, pattern: str) -> None:
        super().__init__()
        self.checkpoints, self.pattern, self.since = checkpoints, pattern, 0

    def advance(self, stage: str, n: int) -> None:
        """A step."""
        self.since += n if list(self.checkpoints.glob(self.pattern)) else 0
        if self.since >= 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_stopped_training_ends_as_one_that_was_not(recipe: str, world: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    watcher = Stopped(again / "checkpoints", CHECKPOINTS.get(recipe, WHOLE))
    with pytest.raises(KeyboardInterrupt):
        made(options_of(recipe, world, again), watcher).train()
    assert not (again / "report.json").exists()
    whole = made(options_of(recipe, world, tmp_path / "whole"), Told()).train()
    report = made(options_of(recipe, world, again), Told()).train()
    assert 0 < report.resumed_at < report.steps == whole.steps
    assert str(world) not in (Path(whole.folder) / "README.md").read_text("utf-8")  # a card is shared
    ends = sorted(path.relative_to(whole.folder) for path in Path(whole.folder).rglob("*.safetensors"))
    assert ends
    for end in ends:
        one, other = load_file(Path(whole.folder) / end), load_file(again / end)
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
    assert report.measured.keys() == whole.measured.keys()
    for when, values in whole.measured.items():
        assert report.measured[when] == pytest.approx(values, abs=1e-4)
