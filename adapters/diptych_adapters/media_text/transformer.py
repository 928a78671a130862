"""The body of an `image_text` network that starts from an encoder of the recipe `pretrain`: a vision transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers
from safetensors import SafetensorError
from torch import Tensor, nn

from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines.fingerprints import read_json
from diptych_adapters.pipelines.library import loading, quiet

NAMES = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
WEIGHTS = "model.safetensors with all weights of a ViT"
HALF = (0.5, 0.5, 0.5)  # mean and deviation of pixels, so that they go from -1 to 1


class TransformerBody(nn.Module):
    """A vision transformer whose tokens are averaged into `cells` by `cells` parts of the picture.

    Args:
        config: of its shape, see `NAMES`.
        cells: a side.
    """

    def __init__(self, config: Mapping[str, int], cells: int) -> None:
        super().__init__()
        shape: dict[str, Any] = {**config}
        self.model: Any = transformers.ViTModel(transformers.ViTConfig(**shape), add_pooling_layer=False)
        self.side = config["image_size"] // config["patch_size"]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(cells), nn.Flatten())

    def forward(self, pixels: Tensor) -> Tensor:
        """Features `[n, hidden_size * cells * cells]` of pixels `[n, 3, size, size]` from -1 to 1."""
        tokens = self.model(pixel_values=pixels).last_hidden_state[:, 1:]
        features: Tensor = self.pool(tokens.transpose(1, 2).unflatten(2, (self.side, self.side)))
        return features

    def begin_with(self, folder: ModelFolder) -> None:
        """Take the weights of a folder.

        Raises:
            ModelError: it does not have all of them, in this shape.
        """
        try:
            with loading, quiet():
                read: Any = transformers.ViTModel.from_pretrained
                given, loaded = read(
                    str(folder.path),
                    add_pooling_layer=False,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            got = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise _unusable(folder, got, WEIGHTS) from error
        if missing := sorted(loaded["missing_keys"]):
            raise _unusable(folder, f"{len(missing)} weights are missing, such as {missing[0]}", WEIGHTS)
        self.model.load_state_dict(given.state_dict())


def shape_of(folder: ModelFolder) -> dict[str, int]:
    """The shape of a picture encoder to begin with, by `NAMES`.

    Raises:
        ModelError: it is not a ViT of square pictures that reads pixels from -1 to 1.
    """
    config = folder.config()
    expected = "what recipe pretrain with of: image wrote, or another ViT of square pictures"
    if config.get("model_type") != "vit":
        raise _unusable(folder, f"model_type {config.get('model_type')!r}", expected)
    shape = {name: config.get(name) for name in NAMES}
    if wrong := [name for name, value in shape.items() if not isinstance(value, int)]:
        raise _unusable(folder, f"{wrong[0]}: {shape[wrong[0]]!r}", expected)
    saved: Mapping[str, Any] = read_json(folder.path / "preprocessor_config.json")
    pixels = [tuple(saved.get(name) or ()) for name in ("image_mean", "image_std")]
    if pixels != [HALF, HALF]:
        raise _unusable(folder, f"image_mean and image_std {pixels}", "0.5 for each colour: pixels from -1 to 1")
    return {name: int(value) for name, value in shape.items() if value is not None}


def _unusable(folder: ModelFolder, got: str, expected: str) -> ModelError:
    what = f"the network cannot begin with {folder.name!r}"
    return ModelError(what, where=folder.path, got=got, expected=expected)
