"""The input of a model by its folder: its config, and a reader for each kind of input."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import transformers

from diptych_adapters.media_models.families import Family
from diptych_adapters.media_models.readers import Clips, Pictures, Reader, Series, Sounds, Texts
from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.library import loading, quiet

DECIDING = (  # of config.json and the parts of it: what is computed from the same weights
    *fingerprints.ARCHITECTURE,
    *("patch_size", "image_size", "num_frames", "tubelet_size", "layer_norm_eps", "use_mean_pooling", "depths"),
    *("context_length", "patch_length", "patch_stride", "scaling", "num_encoder_layers", "encoder_attention_heads"),
    *("encoder_layers", "activation_function", "frequency_stride", "time_stride", "eos_token_id"),
    "do_stable_layer_norm",
)


def config_of(folder: ModelFolder, kind: str) -> Any:
    """The folder's config. A model of series reads one channel at a time, so that it takes series of any number.

    Raises:
        ModelError: a model of series has weights for particular channels.
    """
    config = transformers.AutoConfig.from_pretrained(str(folder.path), local_files_only=True, trust_remote_code=False)
    if kind == "patchtst":
        if not config.share_embedding or config.channel_attention:
            raise ModelError(
                f"model {folder.name!r} has weights for particular channels",
                where=folder.path / "config.json",
                got=f"share_embedding: {config.share_embedding}, channel_attention: {config.channel_attention}",
                expected="a model that reads each channel by itself",
            )
        config.num_input_channels = 1
    return config


def readers_of(folder: ModelFolder, kind: str, family: Family, config: Any) -> dict[str, Reader]:
    """A reader for each kind of input that the model takes.

    Raises:
        ModelError: the folder does not say how media become the model's input.
    """
    path = str(folder.path)
    readers: dict[str, Reader] = {}
    if family.with_text:
        tokenizer = _saved(partial(transformers.AutoTokenizer.from_pretrained, path), folder, "tokenizer.json")
        positions = int(config.text_config.max_position_embeddings)
        rows = positions - 2 if config.text_config.model_type.startswith("clap") else positions  # RoBERTa counts from 2
        readers["text"] = Texts(tokenizer, rows, padded=kind == "siglip")
    if family.reads == "series":
        readers["series"] = Series(int(config.context_length))
    elif family.reads == "sound":
        made = partial(transformers.AutoFeatureExtractor.from_pretrained, path)
        readers["sound"] = Sounds(_saved(made, folder, "preprocessor_config.json"))
    else:
        made = partial(transformers.AutoImageProcessor.from_pretrained, path, backend="pil")
        processor = _saved(made, folder, "preprocessor_config.json")
        is_clip = family.reads == "video"
        readers[family.reads] = Clips(processor, int(config.num_frames)) if is_clip else Pictures(processor)
    return readers


def _saved(load: Any, folder: ModelFolder, file: str) -> Any:
    """What `load` reads of the folder's processor.

    Raises:
        ModelError: it is not there or cannot be read.
    """
    try:
        with loading, quiet():
            return load(local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise ModelError(
            f"model {folder.name!r} does not come with its preprocessing settings",
            where=folder.path / file,
            got=f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}",
            expected=f"{file}, or processor_config.json, as transformers saves it",
            do="save the model's processor into the folder: AutoProcessor.from_pretrained(...).save_pretrained(folder)",
        ) from error


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a config, and of the configs within it, that decide what is computed from the same weights."""
    parts = {name: deciding(part) for name, part in config.items() if isinstance(part, Mapping)}
    return {name: config[name] for name in DECIDING if name in config} | {
        name: part for name, part in parts.items() if part
    }
