"""`fit`: one training with a sentence-transformers trainer, from the start or from its last checkpoint."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sentence_transformers.base.evaluation import BaseEvaluator
from transformers import PrinterCallback, TrainerCallback

from diptych.errors import ConfigError, MissingExtra
from diptych.protocols import Kind
from diptych.training import Watcher
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.fingerprints import read_json
from diptych_training.corpus import TrainingData
from diptych_training.options import LoraOptions, TrainingOptions
from diptych_training.running.families import Family, Precision, computed_in, device, prompts_of_columns, routes_of
from diptych_training.running.folder import RunFolder

PRIMARY = "nDCG@10"
METRICS = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "recall@100": "R@100", "accuracy@1": "P@1"}
TERMS = {"query_active_dims": "query terms", "corpus_active_dims": "document terms"}  # of lexicons
SEARCHES = {  # of each kind of model, where the library has its evaluator, and how that begins
    "dense": ("sentence_transformer", ""),
    "sparse": ("sparse_encoder", "Sparse"),
    "multivector": ("multi_vector_encoder", "MultiVector"),
}

STAGE = "training"


class ProgressCallback(TrainerCallback):
    """Reports each step and each evaluation to the watcher, and logs a line for each in the folder.

    Args:
        watcher: receives the reports.
        folder: of the run.
        metric: the trainer's name of the metric that chooses the best checkpoint.
        model: which of several models is trained; "" for a single one.
        behind: its steps in earlier trainings of the run.
    """

    def __init__(
        self, watcher: Watcher, folder: RunFolder, metric: str | None, *, model: str = "", behind: int = 0
    ) -> None:
        self.watcher, self.folder, self.metric = watcher, folder, metric
        self.stage, self.behind = f"{STAGE} the {model}" if model else STAGE, behind
        self.entry = {"model": model} if model else {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the number of steps, and how many an earlier run has done."""
        if state.global_step:
            self.watcher.say(f"goes on from step {state.global_step} of {state.max_steps}")
        self.watcher.begin(self.stage, state.max_steps)
        self.watcher.advance(self.stage, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report a step."""
        self.watcher.advance(self.stage, 1)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write a line to the log."""
        plain = {key: value for key, value in kwargs["logs"].items() if isinstance(value, int | float | str)}
        self.folder.log({"step": self.behind + state.global_step, **self.entry, **plain})

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the model's value on what is held out."""
        value = kwargs["metrics"].get(self.metric)
        if value is not None:
            name, best = str(self.metric).removeprefix("eval_"), max(value, state.best_metric or value)
            self.watcher.say(f"step {state.global_step}: {name} {value:.4f} on what is held out, best {best:.4f}")


class LastOfEqual(TrainerCallback):
    """Lets the last of several checkpoints with equal values be the best, since the first may be almost untrained.

    It must come after early stopping, for which an equal value is no gain.

    Args:
        metric: the trainer's name of what the best checkpoint is chosen by.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Lower the best value slightly, so that the trainer takes an equal value for a better one."""
        if kwargs["metrics"].get(self.metric) == state.best_metric is not None:
            state.best_metric = math.nextafter(state.best_metric, -math.inf)


def callbacks(watcher: Watcher, folder: RunFolder, metric: str | None, patience: int | None) -> list[Any]:
    """All callbacks of a training; TensorBoard's where its writer is installed."""
    from transformers import EarlyStoppingCallback

    all_callbacks: list[Any] = [ProgressCallback(watcher, folder, metric)]
    if patience is not None and metric is not None:
        all_callbacks.append(EarlyStoppingCallback(early_stopping_patience=patience))
    if metric is not None:
        all_callbacks.append(LastOfEqual(metric))
    if importlib.util.find_spec("tensorboardX"):
        from tensorboardX import SummaryWriter
        from transformers.integrations.integration_utils import TensorBoardCallback

        # A file of its own: those that begin within a second have the same name else.
        writer = SummaryWriter(logdir=str(folder.path / "logs"), filename_suffix=f".{time.time_ns()}")
        all_callbacks.append(TensorBoardCallback(tb_writer=writer))
    return all_callbacks


EVALUATIONS = 10  # a training at most, unless said otherwise
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}  # transformers' names

BEFORE = "before"


@dataclass(frozen=True, slots=True)
class Fitted:
    """The result of a training; the model is now the best that was measured.

    Args:
        steps: of the optimizer, those of earlier runs included.
        resumed_at: the step of the checkpoint that it went on from; 0 for none.
        before, after: values by metric on the held-out queries; empty without any.
        chosen: sentences on which checkpoint was kept, and on values that do not change.
        chosen_by: the metric that chose among checkpoints.
    """

    steps: int
    resumed_at: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    chosen: tuple[str, ...] = ()
    chosen_by: str = PRIMARY

    @property
    def remarks(self) -> tuple[str, ...]:
        """`chosen`, and a warning where the model is worse than the untrained one."""
        before, after = self.before.get(self.chosen_by), self.after.get(self.chosen_by)
        if before is None or after is None or after >= before:
            return self.chosen
        warning = (
            f"Not better than the untrained model: {self.chosen_by} is {after:.4f} after training and {before:.4f} "
            "before. More data, more steps or another learning rate is needed."
        )
        return (*self.chosen, warning)


def fit(
    model: Any,
    rows: Any,
    loss: Any,
    *,
    family: Family,
    options: TrainingOptions,
    folder: RunFolder,
    watcher: Watcher,
    seed: int,
    evaluator: HeldOutEvaluator | None = None,
    sampler: Any | None = None,
    collator: Any | None = None,
    more_callbacks: Sequence[Any] = (),
    changes: Mapping[str, Any] | None = None,
    new: Iterable[Any] = (),
) -> Fitted:
    """Train `model` in place.

    Args:
        model: of sentence-transformers.
        rows: a `datasets.Dataset` with the columns that `loss` wants.
        loss: a module over `(features, labels)`.
        family: the model's family.
        options: the recipe's `training` section.
        folder: of the checkpoints.
        watcher: receives the reports.
        seed: of batches, dropout and everything else.
        evaluator: by whose primary metric the best checkpoint is kept; None keeps the last.
        sampler: of batches; see `diptych_training.rows`.
        collator: instead of the trainer's own.
        more_callbacks: callbacks of the recipe.
        changes: arguments of the trainer that the `training` section does not have.
        new: parameters that the recipe has added to the model. `untrained_share` leaves them alone, and those that the
            model's files had no weights for.
    """
    evaluator = evaluator and evaluator.computed_in(options.precision)
    before = _measured_before(model, evaluator, folder, watcher)
    metric = f"eval_{evaluator.primary_metric}" if evaluator is not None else None
    batches = math.ceil(len(rows) / options.batch_size)
    if sampler is not None:  # which need not return every row
        batches = len(sampler(rows, options.batch_size, False, seed=seed))
    columns = () if family.kind == "reranker" else rows.column_names  # a reranker reads pairs, no column by itself
    more = {
        "prompts": prompts_of_columns(model, columns),
        "router_mapping": routes_of(model, columns),
        "batch_sampler": sampler,
    }
    settings = arguments(family, options, folder, batches=batches, seed=seed, metric=metric, more=more)
    for name, value in (changes or {}).items():
        setattr(settings, name, value)
    untrained = _trained_before(model, new) if options.untrained_share else {}
    if options.lora is not None:
        add_lora(model, options.lora)
    # The recipe's come first: they add to what the others log.
    all_callbacks = [*more_callbacks, *callbacks(watcher, folder, metric, options.patience)]
    collating = {"data_collator": collator} if collator is not None else {}
    trainer = family.trainer(
        model=model,
        args=settings,
        train_dataset=rows,
        loss=loss,
        evaluator=evaluator,
        callbacks=all_callbacks,
        **collating,
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = folder.last_checkpoint()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if options.lora is not None:
        merge_lora(model)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in untrained:
                value.lerp_(untrained[name], options.untrained_share)
    resumed = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    after = measured(model, evaluator)
    chosen_by = str(evaluator.primary_metric) if evaluator is not None else PRIMARY
    chosen = _chosen(trainer.state, chosen_by, before, after) if evaluator is not None else ()
    return Fitted(trainer.state.global_step, resumed, before, after, chosen, chosen_by)


def _chosen(state: Any, metric: str, before: Mapping[str, float], after: Mapping[str, float]) -> tuple[str, ...]:
    """Which checkpoint was kept, and whether the held-out queries distinguish it from the untrained model."""
    sentence = f"Kept are the weights of step {state.best_global_step} of {state.global_step}, by {metric}."
    if before[metric] != after[metric]:
        return (sentence,)
    return (
        sentence,
        f"{metric} is {after[metric]:.4f} before and after: the held-out queries do not tell what was learned.",
    )


def measured(model: Any, evaluator: HeldOutEvaluator | None) -> dict[str, float]:
    """The evaluator's values of a model, by measure; {} without an evaluator."""
    return evaluator(model) if evaluator is not None else {}


def _measured_before(
    model: Any, evaluator: HeldOutEvaluator | None, folder: RunFolder, watcher: Watcher
) -> dict[str, float]:
    """The values of the untrained model, measured once for all runs of the folder."""
    stored = folder.stored(BEFORE)
    if stored is None:
        if evaluator is not None:
            watcher.begin("measuring the untrained model", None)
        stored = [measured(model, evaluator)]
        folder.store(BEFORE, stored)
    return stored[0]


def _trained_before(model: Any, new: Iterable[Any]) -> dict[str, torch.Tensor]:
    """A copy of the weights that an earlier training has made: of all but the `new` and what the files do not have."""
    transformer = model.transformers_model
    unseen = {id(value) for value in (*new, *(new_parameters(transformer) if transformer is not None else ()))}
    return {name: value.detach().clone() for name, value in model.named_parameters() if id(value) not in unseen}


def add_lora(model: Any, options: LoraOptions) -> None:
    """Freeze the transformer of a sentence-transformers model and give its layers adapters, in place.

    What the model's files had no weights for, such as the new head of a cross-encoder, is trained as it is.

    Raises:
        MissingExtra: peft is not installed.
        ConfigError: no layer has such a name.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra("low-rank adapters need peft", where="training.lora", do="pip install 'diptych[train]'")
    from peft import LoraConfig, inject_adapter_in_model

    transformer = model.transformers_model
    linear = [name for name, layer in transformer.named_modules() if isinstance(layer, torch.nn.Linear)]
    if not any(name.endswith(options.modules) for name in linear):
        endings = sorted({name.rpartition(".")[2] for name in linear})
        got, expected = ", ".join(options.modules), ", ".join(endings)
        raise ConfigError("no layer has such a name", where="training.lora.modules", got=got, expected=expected)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.modules),
    )
    new = new_parameters(transformer)
    for parameter in transformer.parameters():
        parameter.requires_grad_(False)
    inject_adapter_in_model(config, transformer)
    for parameter in new:
        parameter.requires_grad_(True)


def merge_lora(model: Any) -> None:
    """Merge the adapters into the weights and remove them, in place; does nothing without adapters."""
    from peft.tuners.lora import LoraLayer

    transformer = model.transformers_model
    for name, layer in [*transformer.named_modules()]:
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(transformer.get_submodule(parent), child, layer.get_base_layer())
    for parameter in transformer.parameters():
        parameter.requires_grad_(True)


def new_parameters(transformer: Any) -> list[torch.nn.Parameter]:
    """The parameters missing in the model's files, as transformers reports when it loads them again."""
    folders = resolve(transformer.name_or_path).module_folders()
    _, info = type(transformer).from_pretrained(
        next(folder for folder in folders if "model_type" in read_json(folder / "config.json")),
        config=copy.deepcopy(transformer.config),
        output_loading_info=True,
        device_map="meta",  # no weights are read
        use_safetensors=True,
        trust_remote_code=False,
    )
    missing = info["missing_keys"]
    return [parameter for name, parameter in transformer.named_parameters(remove_duplicate=False) if name in missing]


def arguments(
    family: Family,
    options: TrainingOptions,
    folder: RunFolder,
    *,
    batches: int,
    seed: int,
    metric: str | None,
    more: Mapping[str, Any],
) -> Any:
    """The arguments of a trainer.

    Args:
        family: whose arguments.
        options: what the recipe file says.
        folder: of the run.
        batches: of an epoch.
        seed: of the run.
        metric: by which the best checkpoint is chosen; None keeps the last.
        more: further ones by name; empty ones are left out.
    """
    steps = max(1, math.ceil(options.epochs * batches))
    every = options.evaluate_every or math.ceil(steps / EVALUATIONS)
    evaluation: dict[str, Any] = {"eval_strategy": "no"}
    if metric is not None:
        evaluation = {
            "eval_strategy": "steps",
            "eval_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": metric,
            "greater_is_better": True,
        }
    return family.arguments(
        output_dir=str(folder.checkpoints),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        lr_scheduler_type=SCHEDULES[options.schedule],
        warmup_steps=round(options.warmup * steps),
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        bf16=options.precision == "bfloat16",
        use_cpu=device(options.device) == "cpu",
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=options.keep + 1,
        restore_callback_states_from_checkpoint=True,  # how long patience has lasted
        logging_steps=max(1, every // 5),
        logging_nan_inf_filter=False,  # which logs 0 for a loss that is none
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **evaluation,
        **{name: value for name, value in more.items() if value},
    )


class HeldOutEvaluator(BaseEvaluator):
    """An evaluator of sentence-transformers whose values have the names of measures; nDCG@10 chooses checkpoints.

    Args:
        inner: the evaluator.
        precision: in which the model computes.
    """

    def __init__(self, inner: Any, precision: Precision = "float32") -> None:
        super().__init__()
        self.inner, self.primary_metric, self.precision = inner, PRIMARY, precision

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """The values of a model, by measure."""
        with computed_in(model, self.precision):
            return self.measured(model)

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, in the precision that it is in now."""
        return by_metric(self.inner(model))

    def computed_in(self, precision: Precision) -> Self:
        """The same in another precision."""
        other = copy.copy(self)
        other.precision = precision
        return other


def search_evaluator(
    held_out: TrainingData, kind: Kind, *, documents: int, seed: int, batch_size: int = 64
) -> HeldOutEvaluator | None:
    """An evaluator that searches exactly; None when nothing is held out.

    Args:
        held_out: the judged queries and the documents.
        kind: dense, sparse or multivector.
        documents: searched at most, the judged ones always.
        seed: of the others that are drawn.
        batch_size: of encoding.
    """
    if not held_out.qrels:
        return None
    texts = draw_documents(held_out, documents, seed)
    relevant = {query: {name for name in held_out.relevant(query) if name in texts} for query in held_out.qrels}
    module, prefix = SEARCHES[kind]
    library = importlib.import_module(f"sentence_transformers.{module}.evaluation")
    evaluator = getattr(library, f"{prefix}InformationRetrievalEvaluator")(
        {query: held_out.queries[query] for query in held_out.qrels},
        texts,
        relevant,
        ndcg_at_k=[10],
        mrr_at_k=[10],
        accuracy_at_k=[1],
        precision_recall_at_k=[100],
        map_at_k=[100],
        batch_size=batch_size,
        write_csv=False,
    )
    return HeldOutEvaluator(evaluator)


def by_metric(values: Mapping[str, Any]) -> dict[str, float]:
    """The results of an evaluator, by the names of measures."""
    return {
        name: float(value)
        for end, name in {**METRICS, **TERMS}.items()
        for key, value in values.items()
        if key == end or key.endswith(f"_{end}")
    }


def draw_documents(held_out: TrainingData, count: int, seed: int) -> dict[str, str]:
    """The judged documents and others, `count` at most, in the order of the corpus."""
    judged = {name for grades in held_out.qrels.values() for name in grades}
    others = [name for name, text in held_out.documents.items() if text and name not in judged]
    order = np.random.default_rng(seed).permutation(len(others))[: max(0, count - len(judged))]
    chosen = judged | {others[place] for place in order}
    return {name: text for name, text in held_out.documents.items() if name in chosen and text}
