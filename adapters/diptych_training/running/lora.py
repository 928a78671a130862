"""Low-rank adapters: added before training, merged afterwards.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; peft does it.
"""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import torch

from diptych.errors import ConfigError, MissingExtra
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.fingerprints import read_json
from diptych_training.options import LoraOptions


def adapt(model: Any, options: LoraOptions) -> None:
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


def merge(model: Any) -> None:
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
