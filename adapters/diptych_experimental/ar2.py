"""`ar2`: a dense encoder and a cross-encoder that train each other in rounds, on newly mined negatives."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, model_validator

from diptych.training import Registration
from diptych_experimental.ar2_rounds import AR2, Form, Game, Round, Scoring
from diptych_training.data.scoring import score_lists
from diptych_training.losses import ContrastiveLoss
from diptych_training.options import (
    MINED,
    AboveZero,
    BatchSize,
    Beside,
    LearningRate,
    NegativesOptions,
    Positive,
    RetrievalOptions,
    Section,
    TrainingOptions,
)
from diptych_training.recipes.common.base import RetrievalTraining
from diptych_training.recipes.common.teacher_options import candidates, compare_rankings
from diptych_training.rows import training_rows
from diptych_training.running import Fitted, family
from diptych_training.running.callbacks import Draw, ProgressCallback, drawing
from diptych_training.running.evaluation import PRIMARY, HeldOutEvaluator
from diptych_training.running.run import BEFORE, measured

Steps = Annotated[int, Field(ge=0)]
ROUND = "round"
NOT_HERE = {  # of the training section
    "epochs": "game.rounds and the steps of game say how long",
    "evaluate_every": "the retriever is measured after each round",
    "patience": "all rounds are played, and the best one is kept",
    "keep": "every round is kept until the best one is known",
    "untrained_share": "rounds train both models, and a mix would be neither's",
    "lora": "rounds train all weights",
    "mini_batch_size": "make batch_size smaller",
}


class GameOptions(Section):
    """Settings of the rounds."""

    rounds: Positive = Field(3, description="Rounds of mining, then training both models.")
    warm_steps: Steps = Field(200, description="Contrastive steps to warm up the retriever; 0 if already trained.")
    warm_ranker_steps: Steps = Field(200, description="Steps to warm up the ranker, on the first negatives.")
    check: bool = Field(
        True,
        description="Stop if the warmed-up ranker does not rank documents of held-out queries better than the "
        "retriever.",
    )
    ranker_steps: Steps = Field(50, description="Ranker steps per round.")
    retriever_steps: Steps = Field(150, description="Retriever steps per round.")
    ranker_rate: AboveZero = Field(2e-5, description="Learning rate of the ranker.")
    adv_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Weight of the adversarial term, 0 to 1; the rest is distillation. 1 collapses."
    )
    form: Form = Field(
        "expectation", description="Form of the adversarial term: expectation as published, or log as released."
    )
    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")


class Negatives(NegativesOptions):
    """The negatives that the ranker orders."""

    per_query: Beside = 15


class RoundsTraining(TrainingOptions):
    """Training options of both models."""

    batch_size: BatchSize = 16
    learning_rate: LearningRate = 2e-5


class Options(RetrievalOptions):
    """Options of `ar2`."""

    ranker: str | None = Field(None, description="Model that the ranker starts from; null is the same as `model`.")
    game: GameOptions = Field(default_factory=GameOptions)
    negatives: Negatives = Field(default_factory=Negatives)
    training: RoundsTraining = Field(default_factory=RoundsTraining)

    shared: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = (
        *(f"training.{name}" for name in NOT_HERE),
        *(f"negatives.{name}" for name in MINED),
    )

    @model_validator(mode="after")
    def _only_what_rounds_have(self) -> Self:
        for name in sorted(self.training.model_fields_set & NOT_HERE.keys()):
            if getattr(self.training, name) not in (None, 0):
                raise ValueError(f"training.{name} is not for ar2: leave it out; {NOT_HERE[name]}")
        if options := self.negatives.set_options():
            raise ValueError(
                f"{', '.join(options)}: rounds take the retriever's best that are not judged relevant: leave it out"
            )
        return self


class Adversarial(RetrievalTraining[Options]):
    """Trains a dense encoder against a cross-encoder, and keeps both."""

    name: ClassVar[str] = "ar2"

    def data_steps(self) -> list[str]:
        """Have synthetic queries written, if configured; each round mines by itself."""
        return self._write_queries()

    def loss(self, model: Any) -> Any:
        """The loss of the warm-up."""
        return ContrastiveLoss(model, tau=self.options.game.tau, relevance=self.data.relevance())

    def fit(self, model: Any) -> Fitted:
        """Warm up, then run the rounds; each is stored, and the result is the retriever of the best one."""
        evaluator, last = self.evaluator(), self._last()
        evaluator = evaluator and evaluator.computed_in(self.options.training.precision)
        if last is None:
            self._warm(model, evaluator)
        with drawing(self.folder) as draw:
            self._play(self._game(model, draw), last, evaluator, draw)
        return self._finished(model, resumed_at=last or 0)

    def export(self, model: Any) -> list[Registration]:
        """Save the retriever in the run's folder, and the ranker of the same round below it."""
        models = super().export(model)
        shutil.copytree(self._round(self._best()) / "ranker", self.folder.path / "ranker", dirs_exist_ok=True)
        ranker = {"model": str(self.folder.path / "ranker")}
        return [*models, Registration(family("reranker").adapter, ranker, name="ranker")]

    def _play(self, game: AR2, last: int | None, evaluator: HeldOutEvaluator | None, draw: Draw) -> None:
        """The rounds after the last stored one; the ranker's warm-up first, if there is none."""
        if last is None:
            game.warm()
            checked = self._checked_ranker(game)
            self._save(game, 0, {"measured": measured(game.retriever, evaluator), "checked": checked})
            draw(ROUND, self._rounds()[0]["measured"], 0)
        else:
            self._load(game, last)
        for number in range((last or 0) + 1, self.options.game.rounds + 1):
            report = game.play(number)
            self._save(game, number, {**asdict(report), "measured": measured(game.retriever, evaluator)})
            self._report_round(report, draw)

    def _checked_ranker(self, game: AR2) -> str:
        """How the ranker, which will reward the retriever, compares with it, in words.

        Raises:
            ConfigError: it ranks no better.
        """
        unknown = "Whether the ranker is better than the retriever was not checked"
        if not self.options.game.check:
            return f"{unknown}, as game.check says."
        lists = candidates(game.retriever, self.options, self.held) if self.held.qrels else {}
        ranker = Scoring(game.ranker, self.options.training.precision)
        scores = score_lists(ranker, lists, self.held.queries, self.held.documents, text_of=self.held.read_beside)
        comparison = compare_rankings(self.held, lists, scores)
        if comparison is None:
            return f"{unknown}: no held-out query has a relevant document that the retriever finds."
        do = (
            "name a trained cross-encoder as `ranker:`, raise game.warm_ranker_steps or game.ranker_rate, or say "
            "game.check: false"
        )
        comparison.require_better(who="the ranker", where="ranker", do=do)
        return f"After the ranker's warm-up: {comparison}."

    def _warm(self, model: Any, evaluator: HeldOutEvaluator | None) -> None:
        steps, share = self.options.game.warm_steps, self.options.training.warmup
        changes = {"max_steps": steps, "eval_steps": steps, "save_steps": steps, "warmup_steps": round(share * steps)}
        if steps:
            self.fitted(model, training_rows(self.data), self.loss(model), changes=changes)
        else:
            self.folder.store(BEFORE, [measured(model, evaluator)])

    def _game(self, model: Any, draw: Draw) -> AR2:
        from transformers import set_seed

        data, training = self.data, self.options.training
        set_seed(self.options.seed)  # of the ranker's new head, wherever a run goes on
        name, activation = self.options.ranker or self.options.model, torch.nn.Identity()
        return AR2(
            model,
            family("reranker").load(name, training, num_labels=1, activation_fn=activation),
            list(data.queries.values()),
            list(data.documents.values()),
            data.relevant_numbers(),
            game=self._as_game(),
            seed=self.options.seed,
            watched=lambda name, behind: [
                ProgressCallback(self.watcher, self.folder, None, model=name, behind=behind, draw=partial(draw, name))
            ],
        )

    def _as_game(self) -> Game:
        training = self.options.training
        return Game(
            **self.options.game.model_dump(exclude={"warm_steps", "check"}),
            negatives=self.options.negatives.per_query,
            batch_size=training.batch_size,
            retriever_rate=training.learning_rate,
            **training.model_dump(include={"warmup", "schedule", "weight_decay", "max_grad_norm", "precision"}),
        )

    def _report_round(self, report: Round, draw: Draw) -> None:
        """Report a round: a line in the log, points of the curves, and a message for the watcher."""
        rounds = self._rounds()
        values, measures = {"hardness": report.hardness, "fooled": report.fooled}, rounds[report.number]["measured"]
        self.folder.log({ROUND: report.number, **values, **{f"eval_{name}": value for name, value in measures.items()}})
        draw(ROUND, {**values, **measures}, report.number)
        scores = [entry["measured"][PRIMARY] for entry in rounds.values() if PRIMARY in entry["measured"]]
        summary = f"; {measures[PRIMARY]:.4f} on held-out queries, best {max(scores):.4f}" if scores else ""
        self.watcher.say(f"round {report.number}: hardness {report.hardness:.3f}, fooled {report.fooled:.3f}{summary}")

    def _round(self, number: int) -> Path:
        return self.folder.checkpoints / f"round-{number}"

    def _rounds(self) -> dict[int, dict[str, Any]]:
        """The reports of all completely stored rounds; round 0 is the warm-up."""
        files = self.folder.checkpoints.glob("round-*/round.json")
        return {int(path.parent.name.rpartition("-")[2]): json.loads(path.read_text("utf-8")) for path in files}

    def _last(self) -> int | None:
        return max(self._rounds(), default=None)

    def _best(self) -> int:
        """The round with the best retriever; the last one without held-out queries."""
        values = {number: report["measured"].get(PRIMARY, 0.0) for number, report in self._rounds().items()}
        return max(values, key=lambda number: (values[number], number))

    def _save(self, game: AR2, number: int, report: dict[str, Any]) -> None:
        folder = self._round(number)
        shutil.rmtree(folder, ignore_errors=True)
        for name, model in (("retriever", game.retriever), ("ranker", game.ranker), ("judge", game.judge)):
            model.save_pretrained(str(folder / name), create_model_card=False)
        torch.save(game.state(), folder / "state.pt")
        (folder / "round.json").write_text(json.dumps(report), "utf-8")  # last: a round without it was not finished

    def _load(self, game: AR2, number: int) -> None:
        folder, models = self._round(number), {"dense": game.retriever, "reranker": game.ranker}
        for (kind, model), name in zip(models.items(), ("retriever", "ranker"), strict=True):
            stored = family(kind).load(str(folder / name), self.options.training)  # type: ignore[arg-type]
            model.load_state_dict(stored.state_dict())
        game.judge = family("reranker").load(str(folder / "judge"), self.options.training)
        game.load_state(torch.load(folder / "state.pt", weights_only=True))

    def _finished(self, model: Any, *, resumed_at: int) -> Fitted:
        best, rounds, options = self._best(), self._rounds(), self.options.game
        stored = self.family.load(str(self._round(best) / "retriever"), self.options.training)
        model.load_state_dict(stored.state_dict())
        hardness = ", ".join(f"{rounds[n]['hardness']:.3f}" for n in sorted(rounds) if n)
        self.remarks.append(
            f"Hardness of the mined negatives by round: {hardness}. The model is that after round {best}."
        )
        self.remarks += filter(None, [rounds[0].get("checked")])
        steps = options.warm_steps + options.warm_ranker_steps
        steps += options.rounds * (options.ranker_steps + options.retriever_steps)
        before = (self.folder.stored(BEFORE) or [{}])[0]
        return Fitted(steps, resumed_at, before, rounds[best]["measured"])
