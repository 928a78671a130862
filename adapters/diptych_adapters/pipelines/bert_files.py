"""Reads a dense BERT encoder from its files, for use without PyTorch.

`prepared` keeps what sentence-transformers told of a model. For the commonest kind of encoder the files say the same: a
BERT transformer, then mean, CLS or max pooling, perhaps normalisation. `engines.bert_graph` writes the graph. Vectors
and fingerprints are those of PyTorch, so a collection that was filled with it can be queried without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.types import Floats
from diptych_adapters.engines.bert_graph import PREFIXES, UNREAD, Shape, bert_model, bert_shape, expected_weights
from diptych_adapters.engines.processor import have
from diptych_adapters.engines.tokens import TokenizerData
from diptych_adapters.model_options import SentenceTransformersOptions
from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.library import check_length
from diptych_adapters.pipelines.prepared import Prepared

EDITION = 1  # of the graph: raised when the same files give another model
TYPES = "embeddings.token_type_embeddings.weight"
POOLINGS = ("mean", "cls", "max")
PACKAGES = {"openvino": ("openvino", "onnx"), "onnx": ("onnxruntime", "onnx")}
TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
SHOWN = 8  # keys that an error names


@dataclass(frozen=True, slots=True, kw_only=True)
class BertFiles:
    """A BERT encoder of sentence-transformers, as its folder describes it.

    Args:
        folder: of the model.
        shape: of the transformer.
        tokenizer: the model's.
        pooling: of token vectors to one.
        normalize: a last module makes vectors unit length.
        max_length: tokens that are read of a text.
    """

    folder: ModelFolder
    shape: Shape
    tokenizer: TokenizerData
    pooling: str
    normalize: bool
    max_length: int

    @property
    def steps(self) -> list[str]:
        """The steps after the transformer, in the names of `pipeline_steps`."""
        return [f"pooling({self.pooling})", *["normalize"] * self.normalize]

    def onnx(self) -> bytes:
        """The encoder as an ONNX model.

        Raises:
            ModelError: weights are missing, too many, of another shape or type.
        """
        model = bert_model(self.shape, self._weights(), self.pooling, normalize=self.normalize)
        return bytes(model.SerializeToString())

    def prepared(self, backend: str, digests: fingerprints.Digests, facts: Mapping[str, Any]) -> Prepared:
        """The facts needed to run the encoder.

        Args:
            backend: openvino or onnx.
            digests: of the folder.
            facts: those that the adapter would read from the library.
        """
        config = fingerprints.file_sha256(self.folder.path / "config.json")
        key_parts = [f"bert {EDITION}", digests.weights, digests.tokenizer, config, *self.steps, str(self.max_length)]
        return Prepared(
            backend=backend,
            key=" ".join(key_parts),
            tokenizer=self.tokenizer,
            max_length=self.max_length,
            typed=False,
            digests=digests,
            steps=self.steps,
            facts=facts,
        )

    def _weights(self) -> dict[str, Floats]:
        from safetensors.numpy import load_file

        stored = load_file(self.folder.path / "model.safetensors")
        prefix = next(p for p in reversed(PREFIXES) if p == "" or any(name.startswith(p) for name in stored))
        weights = {name.removeprefix(prefix): values for name, values in stored.items()}
        shapes = expected_weights(self.shape)
        types = weights.get(TYPES, np.zeros((0, 0)))
        shapes[TYPES] = (max(1, types.shape[0]), self.shape.width)
        wrong = [f"{name} missing" for name in shapes if name not in weights]
        wrong += [
            f"{name} {list(weights[name].shape)} for {list(size)}"
            for name, size in shapes.items()
            if name in weights and weights[name].shape != size
        ]
        wrong += [f"{name} unexpected" for name in weights if name not in shapes and not name.startswith(UNREAD)]
        if wrong:
            raise ModelError(
                f"the weights of model {self.folder.name!r} do not match its config.json",
                where=self.folder.path / "model.safetensors",
                got=", ".join(wrong[:SHOWN]) + (f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""),
                do="save the model again, or pip install 'diptych[torch]' if it is a variant of BERT",
            )
        return {name: np.asarray(weights[name], np.float32) for name in shapes}


def backend_without_torch(options: SentenceTransformersOptions) -> str:
    """The backend for a model read from files: OpenVINO or ONNX Runtime, in float32; "" if none is available."""
    if options.precision not in (None, "float32") or options.file_name or options.trust_remote_code:
        return ""
    any_backend = options.backend in ("auto", "torch")  # torch is the default
    available = [
        name for name, packages in PACKAGES.items() if any_backend or name == options.backend if have(*packages)
    ]
    return available[0] if available else ""


def read_bert(folder: ModelFolder, options: SentenceTransformersOptions) -> BertFiles | None:
    """The encoder in a folder; None if its files have settings that this module does not support.

    Raises:
        ModelError: `max_length` is more than the model can read.
    """
    modules = fingerprints.read_json_list(folder.path / "modules.json")
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or modules[0]["path"]:
        return None
    shape, pooling = bert_shape(folder.config()), _pooling(folder.config(f"{modules[1]['path']}/config.json"))
    settings = folder.config("sentence_bert_config.json")
    if shape is None or pooling is None or not _has_plain_tokens(folder) or not _has_plain_settings(settings):
        return None
    own_length = settings.get("max_seq_length") or min(
        int(folder.config("tokenizer_config.json").get("model_max_length") or shape.positions), shape.positions
    )
    check_length(options.max_length, shape.positions, folder.name)
    from tokenizers import Tokenizer

    text = (folder.path / "tokenizer.json").read_text("utf-8")
    pad = Tokenizer.from_str(text).token_to_id(folder.config("tokenizer_config.json")["pad_token"])
    if pad is None:
        return None
    tokenizer = TokenizerData(text, pad, "right")
    return BertFiles(
        folder=folder,
        shape=shape,
        tokenizer=tokenizer,
        pooling=pooling,
        normalize=len(kinds) == 3,
        max_length=options.max_length or int(own_length),
    )


def _pooling(config: Mapping[str, Any]) -> str | None:
    """The pooling in a module's config.json, in its old or new form; None if the graph does not have it."""
    flags = {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
        "pooling_mode_lasttoken": "lasttoken",
    }
    mode = config.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else list(mode or [name for key, name in flags.items() if config.get(key)])
    supported = len(modes) == 1 and modes[0] in POOLINGS and config.get("include_prompt", True)
    return str(modes[0]) if supported else None


def _has_plain_settings(settings: Mapping[str, Any]) -> bool:
    """Whether sentence_bert_config.json sets only a length and the last layer's token vectors."""
    default: dict[str, Any] = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    default |= {"modality_config": TEXT_ONLY, "do_lower_case": False}
    return all(key == "max_seq_length" or value == default.get(key) for key, value in settings.items())


def _has_plain_tokens(folder: ModelFolder) -> bool:
    """Whether tokenizer.json describes the tokenizer completely, with padding on the right."""
    config = folder.config("tokenizer_config.json")
    padded_right = config.get("padding_side", "right") == "right" and isinstance(config.get("pad_token"), str)
    return padded_right and (folder.path / "tokenizer.json").is_file() and not fingerprints.overridden(folder.path)
