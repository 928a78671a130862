"""`ar2`: a dense encoder and a cross-encoder that train each other in rounds, on newly mined negatives."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from sentence_transformers.cross_encoder.losses import ListNetLoss
from torch import Tensor

from diptych.errors import ContractError
from diptych.protocols import Kind
from diptych.training import Registration
from diptych_training.data import mining
from diptych_training.losses import ContrastiveLoss
from diptych_training.losses.base import Features
from diptych_training.losses.distillation import RowDistillation
from diptych_training.options import (
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
from diptych_training.recipes.base import RetrievalTraining
from diptych_training.recipes.cprd import candidates, require_better, score_lists, some_queries
from diptych_training.recipes.negatives import RELEVANT
from diptych_training.rows import training_rows
from diptych_training.running import Fitted, family
from diptych_training.running.families import prompts_of_columns
from diptych_training.running.run import (
    BEFORE,
    PRIMARY,
    SCHEDULES,
    HeldOutEvaluator,
    ProgressCallback,
    measured,
)

Mined = Mapping[int, list[int]]  # for each query with a relevant document its negatives, hardest first
ROUND = "round"
Steps = Annotated[int, Field(ge=0)]
MINED = ("first_rank", "last_rank", "relative", "slot")  # options of the search for negatives
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
    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")


class Negatives(NegativesOptions):
    """The negatives that the ranker orders."""

    per_query: Beside = 15


class RoundsTraining(TrainingOptions):
    """Training options of both models."""

    batch_size: BatchSize = 16
    learning_rate: LearningRate = 2e-5


@dataclass(frozen=True, slots=True)
class Round:
    """The measurements of a round.

    Args:
        number: from 1.
        hardness: the mean probability, `sigmoid(f- - f+)`, that the ranker as it was after its warm-up prefers a mined
            negative to the relevant document. One judge for all rounds, so that rounds can be compared.
        fooled: the same for the ranker after its steps of this round.
        ranker_loss, retriever_loss: means over the round's steps.
    """

    number: int
    hardness: float
    fooled: float
    ranker_loss: float
    retriever_loss: float


class AR2:
    """Runs AR2 over numbered texts: `warm`, then `play` for each round; the models are trained in place.

    Args:
        retriever: SentenceTransformer, warmed up by a contrastive training.
        ranker: CrossEncoder with one label; untrained weights are enough, since the warm-up trains them.
        queries, documents: texts; ids are their positions.
        relevant: for each query the documents that are judged relevant; queries without any are not trained on.
        game: the rounds; `warm_steps` and `check` are the recipe's.
        training: batch size, the retriever's learning rate, and the rest of both optimisers; the rates rise and fall
            over all rounds together.
        negatives: mined for each query.
        seed: seed of the order of rows.
        watched: returns trainer callbacks for `retriever` or `ranker`, given the last finished step.
    """

    def __init__(
        self,
        retriever: Any,
        ranker: Any,
        queries: Sequence[str],
        documents: Sequence[str],
        relevant: Mapping[int, Sequence[int]],
        *,
        game: GameOptions,
        training: TrainingOptions,
        negatives: int = 15,
        seed: int = 0,
        watched: Callable[[str, int], Sequence[Any]] = lambda name, behind: (),
    ) -> None:
        self.retriever, self.ranker, self.judge, self.watched = retriever, ranker, ranker, watched
        self.game, self.training, self.negatives, self.seed = game, training, negatives, seed
        self.queries, self.documents = queries, documents
        self.relevant = {query: list(ids) for query, ids in relevant.items() if ids}
        self._require_enough()
        steps = game.warm_ranker_steps + game.rounds * game.ranker_steps
        self._ranker_plan = _plan(ranker, training, game.ranker_rate, steps)
        self._retriever_plan = _plan(retriever, training, training.learning_rate, game.rounds * game.retriever_steps)

    def warm(self) -> None:
        """Train the ranker on the first negatives; its state then judges all rounds."""
        self.train_ranker(self.mined(), self.game.warm_ranker_steps, seed=self.seed)
        self.judge = copy.deepcopy(self.ranker)

    def play(self, number: int) -> Round:
        """Run one round; `warm` must be called first."""
        mined, seed = self.mined(), self.seed + number
        ranker_loss = self.train_ranker(mined, self.game.ranker_steps, seed=seed)
        hardness, fooled = self.preference(self.judge, mined), self.preference(self.ranker, mined)
        retriever_loss = self.train_retriever(mined, self.game.retriever_steps, seed=seed)
        return Round(number, hardness, fooled, ranker_loss, retriever_loss)

    def mined(self) -> Mined:
        """The present negatives of the retriever."""
        return mine(self.retriever, self.queries, self.documents, self.relevant, self.negatives)

    def state(self) -> dict[str, Any]:
        """The state of both optimisers, to continue with `load_state`; the models are stored separately."""
        return {name: copy.deepcopy(part.state_dict()) for name, part in self._parts().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`."""
        for name, part in self._parts().items():
            part.load_state_dict(copy.deepcopy(state[name]))  # an optimiser changes the state it is given

    def train_ranker(self, mined: Mined, steps: int, *, seed: int) -> float:
        """Train the ranker on the mined negatives; returns the mean loss. The retriever does not change."""
        rows = self._rows(mined)
        texts = [[self.documents[place] for place in row[1:]] for row in rows]
        columns = {"query": [self.queries[row[0]] for row in rows], "documents": texts}
        labels = [[RELEVANT] + [0.0] * (len(row) - 2) for row in rows]
        data, loss = {**columns, "label": labels}, ListNetLoss(self.ranker, mini_batch_size=-1)
        return self._train("reranker", self.ranker, data, loss, self._ranker_plan, steps, seed)

    def train_retriever(self, mined: Mined, steps: int, *, seed: int) -> float:
        """Train the retriever against the ranker; returns the mean loss. The ranker does not change."""
        rows, game = self._rows(mined), self.game
        names = ["query", "positive", *(f"negative_{n}" for n in range(1, self.negatives + 1))]
        sides = [self.queries, *[self.documents] * (self.negatives + 1)]
        columns = {
            name: [side[row[n]] for row in rows] for n, (name, side) in enumerate(zip(names, sides, strict=True))
        }
        teacher = LiveTeacher(Scoring(self.ranker, self.training.precision), self.queries, self.documents)
        inner = AR2RetrieverLoss(self.retriever, tau=game.tau, adv_weight=game.adv_weight)
        loss, data = LiveDistillation(inner, teacher), {**columns, "label": rows}
        return self._train("dense", self.retriever, data, loss, self._retriever_plan, steps, seed)

    def preference(self, ranker: Any, mined: Mined) -> float:
        """The mean probability that a ranker prefers a mined negative to the relevant document."""
        ids = torch.tensor(self._rows(mined))
        scores = LiveTeacher(Scoring(ranker, self.training.precision), self.queries, self.documents)(ids)
        return float((scores[:, 1:] - scores[:, :1]).sigmoid().mean())

    def _require_enough(self) -> None:
        """Raise ContractError if there is no query, or too few documents to mine negatives from."""
        places = [place for relevant in self.relevant.values() for place in relevant]
        with_text = sum(map(bool, self.documents))
        if places and max(places) >= len(self.documents):
            expected = f"places below {len(self.documents)}"
            raise ContractError("a relevant document is not there", where="AR2", got=max(places), expected=expected)
        most_excluded = _most_excluded(self.documents, self.relevant)
        if not places or with_text <= self.negatives + most_excluded:
            raise ContractError(
                "too little data for AR2",
                where="AR2",
                got=f"{len(self.relevant)} queries with relevant documents, {with_text} documents, "
                f"{most_excluded} of them relevant to one query or copies of such",
                expected=f"a query at least, and over {self.negatives} documents beside relevant ones and copies",
            )

    def _parts(self) -> dict[str, Any]:
        plans = {"retriever": self._retriever_plan, "ranker": self._ranker_plan}
        return {f"{side}.{n}": part for side, plan in plans.items() for n, part in enumerate(plan)}

    def _rows(self, mined: Mined) -> list[list[int]]:
        """Query, relevant document, negatives: a row for each judged pair."""
        return [[query, positive, *mined[query]] for query in mined for positive in self.relevant[query]]

    def _train(
        self, kind: Kind, model: Any, columns: dict[str, Any], loss: Any, plan: Any, steps: int, seed: int
    ) -> float:
        from datasets import Dataset
        from transformers import PrinterCallback

        if not steps:
            return 0.0
        library = family(kind)
        callbacks = self.watched("retriever" if kind == "dense" else "ranker", plan[1].last_epoch)
        with tempfile.TemporaryDirectory() as folder:
            arguments = library.arguments(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=self.training.batch_size,
                bf16=self.training.precision == "bfloat16",
                use_cpu=model.device.type == "cpu",
                save_strategy="no",
                report_to="none",
                logging_steps=max(1, steps // 5),
                disable_tqdm=True,
                max_grad_norm=self.training.max_grad_norm,
                seed=seed,
            )
            data = Dataset.from_dict(columns)
            if kind == "dense":
                arguments.prompts = prompts_of_columns(model, columns)
            trainer = library.trainer(
                model=model, args=arguments, train_dataset=data, loss=loss, optimizers=plan, callbacks=[*callbacks]
            )
            trainer.remove_callback(PrinterCallback)
            loss_value: float = trainer.train().training_loss
        return loss_value


def _plan(
    model: Any, training: TrainingOptions, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """An optimiser and its learning rate schedule, for all rounds together."""
    from transformers import get_scheduler

    matrices, vectors = (
        [parameter for parameter in model.parameters() if (parameter.ndim > 1) is wide] for wide in (True, False)
    )
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=rate)
    name, warmup_steps = SCHEDULES[training.schedule], round(training.warmup * steps)
    scheduler: Any = get_scheduler(name, adam, num_warmup_steps=warmup_steps, num_training_steps=max(1, steps))
    return adam, scheduler


def mine(
    retriever: Any,
    queries: Sequence[str],
    documents: Sequence[str],
    relevant: Mapping[int, Sequence[int]],
    negatives: int,
) -> dict[int, list[int]]:
    """For each query its `negatives` most similar documents, exactly, best first.

    None is judged relevant, nor has the text of one that is.
    """
    source = mining.ModelSource(retriever, {str(place): text for place, text in enumerate(documents)})
    asked = {str(query): queries[query] for query in relevant}
    judged = {str(query): {str(place): 1.0 for place in places} for query, places in relevant.items()}
    depth = negatives + _most_excluded(documents, relevant)
    options = NegativesOptions(per_query=negatives, last_rank=depth, relative=None)
    found = mining.mine(source, asked, judged, options).negatives
    return {query: [int(name) for name, _ in found[str(query)]] for query in relevant}


def _most_excluded(documents: Sequence[str], relevant: Mapping[int, Sequence[int]]) -> int:
    """How many documents at most are no negatives of a query: those with the text of a relevant one."""
    copies = Counter(map(mining.plain, documents))
    texts_of = ({mining.plain(documents[place]) for place in places} for places in relevant.values())
    return max((sum(copies[text] for text in texts) for texts in texts_of), default=0)


class AR2RetrieverLoss(RowDistillation):
    """The retriever's step of AR2: probability to negatives that fool the ranker, held by its distribution.

    `reward_i = log(e^f+ / (e^f+ + e^f_i))`, f the ranker's scores. The adversarial term is the expectation of the
    reward under the softmax over the negatives, averaged over the batch. It asks for no judgements: negatives that are
    judged relevant must not be in the rows (see `mine`).

    Args:
        model: that is trained.
        adv_weight: of the adversarial term; the rest goes to the cross-entropy with the ranker's distribution.
        common: see `RetrievalLoss`.
    """

    def __init__(self, model: Any, *, adv_weight: float = 0.5, **common: Any) -> None:
        super().__init__(model, **common)
        self.adv_weight = adv_weight

    def of_rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of scores `[B, 1 + H]`."""
        distilled = -(teacher.softmax(1) * student.log_softmax(1)).sum(1).mean()
        reward = torch.nn.functional.logsigmoid(teacher[:, :1] - teacher)
        adversarial = (student[:, 1:].softmax(1) * reward[:, 1:]).sum(1).mean()
        return self.adv_weight * adversarial + (1 - self.adv_weight) * distilled


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
        if given := [name for name in MINED if name in self.negatives.model_fields_set]:
            raise ValueError(
                f"negatives.{given[0]}: rounds take the retriever's best that are not judged relevant: leave it out"
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
        evaluator, last = self.evaluator(), max(self._rounds(), default=None)
        evaluator = evaluator and evaluator.computed_in(self.options.training.precision)
        if last is None:
            self._warm(model, evaluator)
        self._play(self._game(model), last, evaluator)
        return self._finished(model, resumed_at=last or 0)

    def export(self, model: Any) -> list[Registration]:
        """Save the retriever in the run's folder, and the ranker of the same round below it."""
        models = super().export(model)
        shutil.copytree(self._round(self._best()) / "ranker", self.folder.path / "ranker", dirs_exist_ok=True)
        ranker = {"model": str(self.folder.path / "ranker")}
        return [*models, Registration(family("reranker").adapter, ranker, name="ranker")]

    def _play(self, game: AR2, last: int | None, evaluator: HeldOutEvaluator | None) -> None:
        """The rounds after the last stored one; the ranker's warm-up first, if there is none."""
        if last is None:
            game.warm()
            checked = self._checked_ranker(game)
            self._save(game, 0, {"measured": measured(game.retriever, evaluator), "checked": checked})
        else:
            self._load(game, last)
        for number in range((last or 0) + 1, self.options.game.rounds + 1):
            report = game.play(number)
            measures = measured(game.retriever, evaluator)
            self._save(game, number, {**asdict(report), "measured": measures})
            values = {"hardness": report.hardness, "fooled": report.fooled}
            self.folder.log({ROUND: number, **values, **{f"eval_{name}": value for name, value in measures.items()}})
            known = [entry["measured"] for entry in self._rounds().values()]
            scores = [own[PRIMARY] for own in known if PRIMARY in own]
            summary = f"; {measures[PRIMARY]:.4f} on held-out queries, best {max(scores):.4f}" if scores else ""
            told = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            self.watcher.say(f"round {number}: {told}{summary}")

    def _checked_ranker(self, game: AR2) -> str:
        """How the ranker, which will reward the retriever, compares with it, in words.

        Raises:
            ConfigError: it ranks no better.
        """
        unknown = "Whether the ranker is better than the retriever was not checked"
        if not self.options.game.check:
            return f"{unknown}, as game.check says."
        held = some_queries(self.held, self.options.seed)
        lists = candidates(game.retriever, self.options, held) if held.qrels else {}
        ranker = Scoring(game.ranker, self.options.training.precision)
        do = (
            "name a trained cross-encoder as `ranker:`, raise game.warm_ranker_steps or game.ranker_rate, or say "
            "game.check: false"
        )
        scores = score_lists(ranker, lists, held)
        sentence = require_better(held, lists, scores, who="the ranker", where="ranker", do=do)
        if sentence is None:
            return f"{unknown}: no held-out query has a relevant document that the retriever finds."
        return f"After the ranker's warm-up: {sentence}."

    def _warm(self, model: Any, evaluator: HeldOutEvaluator | None) -> None:
        steps, share = self.options.game.warm_steps, self.options.training.warmup
        changes = {"max_steps": steps, "eval_steps": steps, "save_steps": steps, "warmup_steps": round(share * steps)}
        if steps:
            self.fitted(model, training_rows(self.data), self.loss(model), changes=changes)
        else:
            self.folder.store(BEFORE, [measured(model, evaluator)])

    def _game(self, model: Any) -> AR2:
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
            game=self.options.game,
            training=training,
            negatives=self.options.negatives.per_query,
            seed=self.options.seed,
            watched=lambda name, behind: [ProgressCallback(self.watcher, self.folder, None, model=name, behind=behind)],
        )

    def _round(self, number: int) -> Path:
        return self.folder.checkpoints / f"round-{number}"

    def _rounds(self) -> dict[int, dict[str, Any]]:
        """The reports of all completely stored rounds; round 0 is the warm-up."""
        files = self.folder.checkpoints.glob("round-*/round.json")
        return {int(path.parent.name.rpartition("-")[2]): json.loads(path.read_text("utf-8")) for path in files}

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


class Scoring:
    """A cross-encoder in training as a `Reranker`: raw scores, without its activation.

    Args:
        model: CrossEncoder.
        precision: of the arithmetic.
    """

    independent = True

    def __init__(self, model: Any, precision: str = "float32") -> None:
        self.model, self.precision, self.max_length = model, precision, model.max_seq_length

    def predict(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Scores float32 `[n]`."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            scores = self.model.predict(
                list(pairs),
                batch_size=64,
                show_progress_bar=False,
                convert_to_tensor=True,
                activation_fn=torch.nn.Identity(),
            )
        return np.asarray(scores.float().cpu().numpy(), np.float32)


class LiveTeacher:
    """A reranker's scores of the pairs of a batch, by their ids; each pair is scored once.

    Args:
        reranker: any with `predict`.
        queries, documents: the text of each id, which is its place.
    """

    def __init__(self, reranker: Any, queries: Sequence[str], documents: Sequence[str]) -> None:
        self.reranker, self.queries, self.documents = reranker, queries, documents
        self.known: dict[tuple[int, int], float] = {}

    def __call__(self, ids: Tensor) -> Tensor:
        """Scores float32 `[B, C]` of the C documents of each row of ids `[B, 1 + C]`: query, then documents."""
        pairs = [[(row[0], document) for document in row[1:]] for row in ids.tolist()]
        if new := list(dict.fromkeys(pair for row in pairs for pair in row if pair not in self.known)):
            scores = self.reranker.predict([(self.queries[query], self.documents[document]) for query, document in new])
            self.known |= dict(zip(new, np.asarray(scores, np.float64).tolist(), strict=True))
        return torch.tensor([[self.known[pair] for pair in row] for row in pairs], dtype=torch.float32)


class LiveDistillation(torch.nn.Module):
    """A loss that distils a teacher, which is asked during training, by ids `[B, 2 + H]` in the label column."""

    def __init__(self, loss: RowDistillation, teacher: LiveTeacher) -> None:
        super().__init__()
        self.model, self.loss, self.teacher = loss.model, loss, teacher

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """The loss of a batch."""
        loss: Tensor = self.loss(sentence_features, self.teacher(labels).to(labels.device))
        return loss
