"""Converts a recipe's `training` section to sentence-transformers' training arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from diptych_training.options import TrainingOptions
from diptych_training.running.families import Family, device
from diptych_training.running.folder import RunFolder

EVALUATIONS = 10  # a training at most, unless said otherwise
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}  # transformers' names


def arguments(
    family: Family,
    options: TrainingOptions,
    folder: RunFolder,
    *,
    batches: int,
    seed: int,
    metric: str | None,
    sampler: Any,
    prompts: Mapping[str, str],
    router_mapping: Mapping[str, str],
) -> Any:
    """The arguments of a trainer.

    Args:
        family: whose arguments.
        options: what the recipe file says.
        folder: of the run.
        batches: of an epoch.
        seed: of the run.
        metric: by which the best checkpoint is chosen; None keeps the last.
        sampler: of batches; None draws them evenly.
        prompts: of the columns that have one.
        router_mapping: which way each column goes, of a model with a Router.
    """
    steps = max(1, math.ceil(options.epochs * batches))
    every = options.evaluate_every or math.ceil(steps / EVALUATIONS)
    more: dict[str, Any] = {"eval_strategy": "no"}
    if metric is not None:
        more = {
            "eval_strategy": "steps",
            "eval_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": metric,
            "greater_is_better": True,
        }
    for name, mapping in (("prompts", prompts), ("router_mapping", router_mapping)):
        if mapping:
            more[name] = dict(mapping)
    if sampler is not None:
        more["batch_sampler"] = sampler
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
        **more,
    )
