"""AR2: a retriever is rewarded for negatives that fool a ranker, and the ranker is trained on those.

Zhang et al., "Adversarial Retriever-Ranker for Dense Text Retrieval", ICLR 2022. Each round mines the retriever's best
documents anew, exactly and without those that are judged relevant or copies of them, trains the ranker on them, then
the retriever against the ranker. Both keep their optimiser from round to round.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import ContractError
from diptych.protocols import Kind
from diptych_training.data.model_candidates import excluded, mine
from diptych_training.losses import ListwiseLoss, OnlineDistillationLoss
from diptych_training.losses.distillation import RowDistillation
from diptych_training.running import family
from diptych_training.running.columns import prompts_of_columns
from diptych_training.running.run import SCHEDULES
from diptych_training.teacher_scores import LiveTeacher

Mined = Mapping[int, list[int]]  # for each query with a relevant document its negatives, hardest first
Form: TypeAlias = Literal["expectation", "log"]


@dataclass(frozen=True, slots=True)
class Game:
    """The settings of AR2; the defaults are small, the authors use 2,000 steps a round.

    Args:
        rounds: of mining and both trainings.
        ranker_steps, retriever_steps: of a round; `warm_ranker_steps` come once before, on the first negatives.
        negatives: mined for each query.
        batch_size: queries of a step.
        ranker_rate, retriever_rate: learning rates, which rise and fall over all rounds together.
        warmup: share of each model's steps in which its rate rises.
        schedule: how it falls afterwards: `linear`, `cosine` or `constant`.
        weight_decay: of AdamW, but for biases and norms.
        max_grad_norm: gradients are clipped to this length.
        adv_weight, form, tau: see `AR2RetrieverLoss`.
        precision: of the arithmetic, `float32` or `bfloat16`.
    """

    rounds: int = 3
    ranker_steps: int = 50
    retriever_steps: int = 150
    warm_ranker_steps: int = 100
    negatives: int = 15
    batch_size: int = 16
    ranker_rate: float = 1e-5
    retriever_rate: float = 2e-5
    warmup: float = 0.0
    schedule: str = "linear"
    weight_decay: float = 0.01
    max_grad_norm: float = 2.0
    adv_weight: float = 0.5
    form: Form = "expectation"
    tau: float = 0.05
    precision: str = "float32"


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
    """Runs AR2 over numbered texts; `rounds()` yields the measurements of each round.

    Args:
        retriever: SentenceTransformer, warmed up by a contrastive training.
        ranker: CrossEncoder with one label; untrained weights are enough, since the warm-up trains them.
        queries, documents: texts; ids are their positions.
        relevant: for each query the documents that are judged relevant; queries without any are not trained on.
        game: the settings of the game.
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
        game: Game | None = None,
        seed: int = 0,
        watched: Callable[[str, int], Sequence[Any]] = lambda name, behind: (),
    ) -> None:
        self.retriever, self.ranker, self.game, self.seed = retriever, ranker, game or Game(), seed
        self.judge, self.watched = ranker, watched
        self.queries, self.documents = queries, documents
        self.relevant = {query: list(ids) for query, ids in relevant.items() if ids}
        self._require_enough()
        game, steps = self.game, self.game.warm_ranker_steps + self.game.rounds * self.game.ranker_steps
        self._ranker_plan = _plan(ranker, game, game.ranker_rate, steps)
        self._retriever_plan = _plan(retriever, game, game.retriever_rate, game.rounds * game.retriever_steps)

    def rounds(self) -> Iterator[Round]:
        """Warm the ranker up, then run round after round; the models are trained in place."""
        self.warm()
        for number in range(1, self.game.rounds + 1):
            yield self.play(number)

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
        return mine(self.retriever, self.queries, self.documents, self.relevant, self.game.negatives)

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
        labels = [[1.0] + [0.0] * (len(row) - 2) for row in rows]
        data, loss = {**columns, "label": labels}, ListwiseLoss(self.ranker)
        return self._train("reranker", self.ranker, data, loss, self._ranker_plan, steps, seed)

    def train_retriever(self, mined: Mined, steps: int, *, seed: int) -> float:
        """Train the retriever against the ranker; returns the mean loss. The ranker does not change."""
        rows, game = self._rows(mined), self.game
        names = ["query", "positive", *(f"negative_{n}" for n in range(1, game.negatives + 1))]
        sides = [self.queries, *[self.documents] * (game.negatives + 1)]
        columns = {
            name: [side[row[n]] for row in rows] for n, (name, side) in enumerate(zip(names, sides, strict=True))
        }
        teacher = LiveTeacher(Scoring(self.ranker, game.precision), self.queries, self.documents)
        inner = AR2RetrieverLoss(self.retriever, tau=game.tau, adv_weight=game.adv_weight, form=game.form)
        loss, data = OnlineDistillationLoss(inner, teacher), {**columns, "label": rows}
        return self._train("dense", self.retriever, data, loss, self._retriever_plan, steps, seed)

    def preference(self, ranker: Any, mined: Mined) -> float:
        """The mean probability that a ranker prefers a mined negative to the relevant document."""
        ids = torch.tensor(self._rows(mined))
        scores = LiveTeacher(Scoring(ranker, self.game.precision), self.queries, self.documents)(ids)
        return float((scores[:, 1:] - scores[:, :1]).sigmoid().mean())

    def _require_enough(self) -> None:
        """Raise ContractError if there is no query, or too few documents to mine negatives from."""
        places = [place for relevant in self.relevant.values() for place in relevant]
        with_text = sum(map(bool, self.documents))
        if places and max(places) >= len(self.documents):
            expected = f"places below {len(self.documents)}"
            raise ContractError("a relevant document is not there", where="AR2", got=max(places), expected=expected)
        most_excluded = max(map(len, excluded(self.documents, self.relevant).values()), default=0)
        if not places or with_text <= self.game.negatives + most_excluded:
            raise ContractError(
                "too little data for AR2",
                where="AR2",
                got=f"{len(self.relevant)} queries with relevant documents, {with_text} documents, "
                f"{most_excluded} of them relevant to one query or copies of such",
                expected=f"a query at least, and over {self.game.negatives} documents beside relevant ones and copies",
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
                per_device_train_batch_size=self.game.batch_size,
                bf16=self.game.precision == "bfloat16",
                use_cpu=model.device.type == "cpu",
                save_strategy="no",
                report_to="none",
                logging_steps=max(1, steps // 5),
                disable_tqdm=True,
                max_grad_norm=self.game.max_grad_norm,
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


def _plan(
    model: Any, game: Game, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """An optimiser and its learning rate schedule, for all rounds together."""
    from transformers import get_scheduler

    matrices, vectors = (
        [parameter for parameter in model.parameters() if (parameter.ndim > 1) is wide] for wide in (True, False)
    )
    groups = [{"params": matrices, "weight_decay": game.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=rate)
    name, warmup_steps = SCHEDULES[game.schedule], round(game.warmup * steps)
    scheduler: Any = get_scheduler(name, adam, num_warmup_steps=warmup_steps, num_training_steps=max(1, steps))
    return adam, scheduler


class AR2RetrieverLoss(RowDistillation):
    """The retriever's step of AR2: probability to negatives that fool the ranker, held by its distribution.

    `reward_i = log(e^f+ / (e^f+ + e^f_i))`, f the ranker's scores. The adversarial term is the expectation of the
    reward under the softmax over the negatives, or the sum of `reward_i log p_i` over the row, the authors' released
    form, here averaged over the batch; they add it up, so that theirs weighs as many times more as a batch has rows. It
    asks for no judgements: negatives that are judged relevant must not be in the rows (see
    `diptych_training.data.model_candidates`).

    Args:
        model, tau, similarity: see `RowDistillation`.
        adv_weight: of the adversarial term; the rest goes to the cross-entropy with the ranker's distribution.
        form: `expectation`, or `log`, the released one, mean-reduced.
        temperature: of the ranker's distribution.
    """

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.05,
        adv_weight: float = 0.5,
        form: Form = "expectation",
        temperature: float = 1.0,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, tau=tau, similarity=similarity)
        if form not in ("expectation", "log"):
            raise ContractError("unknown form", where="AR2RetrieverLoss", got=form, expected="expectation, log")
        self.adv_weight, self.form, self.temperature = adv_weight, form, temperature

    def of_rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of scores `[B, 1 + H]`."""
        target = (teacher / self.temperature).softmax(1)
        distilled = -(target * student.log_softmax(1)).sum(1).mean()
        return self.adv_weight * self.adversarial(student, teacher) + (1 - self.adv_weight) * distilled

    def adversarial(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The term that rewards negatives that fool the ranker."""
        reward = torch.nn.functional.logsigmoid(teacher[:, :1] - teacher)
        if self.form == "log":
            return (reward * student.log_softmax(1)).sum(1).mean()
        return (student[:, 1:].softmax(1) * reward[:, 1:]).sum(1).mean()
