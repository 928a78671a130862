"""The model types of transformers that diptych knows as encoders of media, and what each reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from diptych.media import Modality
from diptych_adapters.models import ModelError, ModelFolder

Pooling: TypeAlias = Literal["features", "cls", "mean", "pooler"]


@dataclass(frozen=True, slots=True)
class Family:
    """What a model type reads and how its token vectors become one.

    Args:
        reads: its modality.
        poolings: the poolings that make sense, the usual one first. `features`: the model projects media and texts into
            one space itself.
        leading: tokens before those of the content, such as [CLS], which a mean leaves out.
        encoder: whether only the encoder of an encoder-decoder model is run.
        heads: prefixes of other tasks' weights that a folder may also have, if transformers does not list them.
    """

    reads: Modality
    poolings: tuple[Pooling, ...]
    leading: int = 0
    encoder: bool = False
    heads: tuple[str, ...] = ()

    @property
    def with_text(self) -> bool:
        """Whether it also reads texts."""
        return self.poolings == ("features",)

    @property
    def adapter(self) -> str:
        """The adapter that serves it."""
        return f"transformers-{self.reads}{'-text' if self.with_text else ''}"


_VIT = Family("image", ("cls", "mean", "pooler"), leading=1)
_AVERAGED = Family("image", ("pooler",))
_WAVES = Family("sound", ("mean",))

FAMILIES: Mapping[str, Family] = {
    "clip": Family("image", ("features",)),
    "siglip": Family("image", ("features",)),
    "clap": Family("sound", ("features",)),
    "vit": _VIT,
    "deit": Family("image", ("cls", "mean", "pooler"), leading=2),
    "dinov2": _VIT,
    "clip_vision_model": Family("image", ("pooler",)),
    "siglip_vision_model": Family("image", ("pooler",)),
    "convnext": _AVERAGED,
    "convnextv2": _AVERAGED,
    "resnet": _AVERAGED,
    "swin": _AVERAGED,
    "whisper": Family("sound", ("mean",), encoder=True),
    "wav2vec2": _WAVES,
    "hubert": _WAVES,
    "wavlm": _WAVES,
    "audio-spectrogram-transformer": Family("sound", ("pooler", "cls", "mean"), leading=2),
    "videomae": Family("video", ("mean",)),
    "vivit": Family("video", ("cls", "mean", "pooler"), leading=1),
    "timesformer": Family("video", ("cls", "mean"), leading=1),
    "patchtst": Family("series", ("mean",), heads=("head.",)),
}


def family_of(folder: ModelFolder, adapter: str) -> tuple[str, Family]:
    """The model type of a folder with its family.

    Raises:
        ModelError: the folder has no such model, or another adapter serves it.
    """
    kind = str(folder.config().get("model_type", ""))
    served = [name for name, family in FAMILIES.items() if family.adapter == adapter]
    family = FAMILIES.get(kind)
    if family is not None and family.adapter == adapter:
        return kind, family
    reads = f", which reads {_inputs(family)}" if family else ""
    raise ModelError(
        f"model {folder.name!r} is not one that {adapter} runs",
        where=folder.path / "config.json",
        got=f"model_type {kind!r}{reads}" if kind else "no model_type",
        expected=f"one of {', '.join(served)}",
        do=f"use adapter: {family.adapter}, in a slot `of: {family.reads}`" if family else "use such a model",
    )


def _inputs(family: Family) -> str:
    return f"{family.reads} and text" if family.with_text else family.reads
