"""Dense encoders of media by models of transformers: one class for all families, and what each reads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
import transformers
from PIL import Image

from diptych.errors import ContractError, brief
from diptych.media import Content, Modality, Sound
from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.engines.batches import unit
from diptych_adapters.media_models.readers import (
    PREPROCESSING,
    Clips,
    Part,
    Pictures,
    Reader,
    Sounds,
    Texts,
    middle,
)
from diptych_adapters.model_options import (
    MediaModelOptions,
    SentenceTransformersImageOptions,
    SentenceTransformersOptions,
)
from diptych_adapters.models import ModelError, ModelFolder, check_safe, check_width, resolve
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.fingerprints import pipeline_steps
from diptych_adapters.pipelines.library import find, load, loading, numerics, prompts_of, quiet
from diptych_adapters.pipelines.pipeline import identity_of, state_of
from diptych_adapters.pipelines.weight_checks import answers, check_complete, recorded
from diptych_adapters.sentence_transformers import ORGANIZATION, check_dense

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
    """

    reads: Modality
    poolings: tuple[Pooling, ...]
    leading: int = 0
    encoder: bool = False

    @property
    def with_text(self) -> bool:
        """Whether it also reads texts."""
        return self.poolings == ("features",)

    @property
    def modality(self) -> str:
        """The value of the option `modality` that serves it."""
        return f"{self.reads}-text" if self.with_text else self.reads


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
}

DECIDING = (  # of config.json and the parts of it: what is computed from the same weights
    *fingerprints.ARCHITECTURE,
    *("patch_size", "image_size", "num_frames", "tubelet_size", "layer_norm_eps", "use_mean_pooling", "depths"),
    *("num_encoder_layers", "encoder_attention_heads"),
    *("encoder_layers", "activation_function", "frequency_stride", "time_stride", "eos_token_id"),
    "do_stable_layer_norm",
)

_GREY = np.full((2, 32, 48, 3), 128, np.uint8)
_WAVE = np.sin(np.arange(8000) / 5).astype(np.float32)
TRIALS: Mapping[str, Content] = {  # inputs that show whether a model is whole and how wide its vectors are
    "image": _GREY[0],
    "video": _GREY,
    "sound": Sound(_WAVE, 16_000),
}


class MediaEncoder:
    """One vector for each picture, sound or clip, and for each text if the model has a text side.

    A string is always a text, never the name of a file.

    Raises:
        ModelError: the folder has no model of this modality, or lacks weights or preprocessing.
    """

    similarity: Similarity = "cosine"

    def __init__(self, modality: str, **given: Any) -> None:
        options = MediaModelOptions(**given)
        self._modality, self._options = modality, options
        self._folder = resolve(options.model, revision=options.revision)
        self.name = self._folder.name
        check_safe(self._folder, trust_remote_code=False, allow_pickle_weights=False)
        self._kind, self._family = family_of(self._folder, modality)
        self._pooling = _pooling(self._family, options, self._kind)
        self._lock = threading.Lock()
        config = transformers.AutoConfig.from_pretrained(
            str(self._folder.path), local_files_only=True, trust_remote_code=False
        )
        self._readers = readers_of(self._folder, self._kind, self._family, config)
        self._weights = fingerprints.weights_digest([self._folder.path])
        self._device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model = self._load(config)
        dimensions = {int(vectors.shape[-1]) for vectors in self._trial()}
        if len(dimensions) > 1:
            what, got = "the model makes vectors of texts and media that cannot be compared", f"dimensions {dimensions}"
            raise ModelError(what, where=self._folder.path, got=got, expected="one dimension")
        self.dimension = dimensions.pop()

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        texts = self._readers.get("text")
        steps = [self._kind, self._pooling, *(["normalize"] if self._options.normalize else [])]
        return fingerprints.fingerprint(
            weights=fingerprints.digest([self._weights, deciding(self._folder.config())]),
            tokenizer=fingerprints.tokenizer_digest([self._folder.path]) if texts else fingerprints.digest([]),
            pooling=[*steps, *(f"{kind}({reader.digest})" for kind, reader in sorted(self._readers.items()))],
            prompts=("", ""),
            max_length=texts.max_length if isinstance(texts, Texts) else None,
            dimension=self.dimension,
            numerics=f"torch {self._options.precision} {self._device.type}",
        )

    @property
    def identity(self) -> str:
        """A digest of everything that decides the vectors, libraries and machine included; "" if unknown."""
        state = state_of(self._folder, cast(Any, self._options))
        if state is None:
            return ""
        libraries = [version(name) for name in ("pillow", "scipy", "numpy")]
        options = {**self._options.model_dump(mode="json"), "modality": self._modality}
        return identity_of("transformers-media", options, state, libraries, str(self._device))

    def encode_document(self, inputs: Sequence[str | Content]) -> Floats:
        """Vectors of queries or documents, texts and media mixed, float32 `[n, dimension]`."""
        sums = np.zeros((len(inputs), self.dimension), np.float64)
        weights = np.zeros((len(inputs), 1))
        waiting: dict[tuple[Any, ...], list[tuple[int, Part]]] = {}
        with self._lock:
            for at, content in enumerate(inputs):
                for part in self._parts(content):
                    batch = waiting.setdefault(part.shape, [])
                    batch.append((at, part))
                    if len(batch) == self._options.batch_size:
                        self._add(waiting.pop(part.shape), sums, weights)
            for batch in waiting.values():
                self._add(batch, sums, weights)
        vectors = sums / np.maximum(weights, 1e-12)
        return np.asarray(self._scaled(vectors), np.float32)

    encode_query = encode_document

    def _parts(self, content: str | Content) -> Iterable[Part]:
        kind = "text" if isinstance(content, str) else "sound"
        if isinstance(content, np.ndarray):
            kind = {3: "image", 4: "video"}.get(content.ndim, "unknown")
        reader = self._readers.get(kind)
        if reader is None:
            what = "a text" if kind == "text" else f"{kind} content"
            raise ContractError(
                f"adapter transformers-media does not read this with modality: {self._modality}",
                where=f"model {self.name!r}",
                got=f"{what}: {brief(content)}" if kind == "text" else what,
                expected=" or ".join(self._readers),
                do=f"set `of: {self._family.reads}` in the slot, or use an adapter for what the slot reads",
            )
        return reader.parts(content)

    def _add(self, batch: Sequence[tuple[int, Part]], sums: Any, weights: Any) -> None:
        vectors = self._scaled(self._run([part for _, part in batch]))
        for (at, part), vector in zip(batch, vectors, strict=True):
            sums[at] += part.weight * vector
            weights[at] += part.weight

    def _scaled(self, vectors: Any) -> Any:
        if not self._options.normalize:
            return vectors
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

    def _run(self, parts: Sequence[Part]) -> Any:
        """The model's vectors of parts of equal shape, float64 `[n, dimension]`."""
        joined = {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features}
        dtype = self._model.dtype
        features = {
            name: value.to(self._device, dtype if value.is_floating_point() else None) for name, value in joined.items()
        }
        with torch.inference_mode():
            vectors = self._pooled(features, [part.length for part in parts])
        return vectors.float().cpu().numpy().astype(np.float64)

    def _pooled(self, features: Mapping[str, torch.Tensor], lengths: Sequence[int | None]) -> torch.Tensor:
        if self._pooling == "features":
            side = "text" if "input_ids" in features else {"sound": "audio"}.get(self._family.reads, "image")
            # The projected vectors: in transformers 5 part of an output, before that the output itself.
            output = getattr(self._model, f"get_{side}_features")(**features)
            return cast(torch.Tensor, output if torch.is_tensor(output) else output.pooler_output)
        outputs = self._model(**features)
        if self._pooling == "pooler":
            return cast(torch.Tensor, outputs.pooler_output).flatten(1)
        tokens = outputs.last_hidden_state
        if self._pooling == "cls":
            return cast(torch.Tensor, tokens[:, 0])
        rows = [token[self._family.leading : length].mean(dim=0) for token, length in zip(tokens, lengths, strict=True)]
        return torch.stack(rows)

    def _load(self, config: Any) -> Any:
        """The model, of which all weights that its vectors need were in the folder."""
        with loading, quiet(), recorded() as loads:
            whole = transformers.AutoModel.from_pretrained(
                str(self._folder.path),
                config=config,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=getattr(torch, self._options.precision),
            ).eval()
            model = whole.get_encoder() if self._family.encoder else whole
            self._model = model.to(self._device)
            check_complete(loads, self._folder, whole, outputs=self._trial)
        return model

    def _trial(self) -> Iterator[torch.Tensor]:
        """Vectors of a trial input of each kind.

        Raises:
            ModelError: the model does not take what its processor gives.
        """
        trials: list[tuple[str, Any]] = [("text", "a")] if self._family.with_text else []
        trials += [(self._family.reads, TRIALS[self._family.reads])]
        for kind, content in trials:
            try:
                yield torch.from_numpy(self._run([next(iter(self._readers[kind].parts(content)))]))
            except (ValueError, RuntimeError, IndexError) as error:
                raise ModelError(
                    f"model {self.name!r} fails on the output of its own processor",
                    where=self._folder.path,
                    got=f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}",
                    expected="config.json and preprocessor_config.json of one model",
                    do="download or save the model again",
                ) from error


image, image_text = (partial(MediaEncoder, modality) for modality in ("image", "image-text"))
sound, sound_text = (partial(MediaEncoder, modality) for modality in ("sound", "sound-text"))
video = partial(MediaEncoder, "video")


def _pooling(family: Family, options: MediaModelOptions, kind: str) -> Pooling:
    pooling = options.pooling or family.poolings[0]
    if pooling not in family.poolings:
        expected = " or ".join(family.poolings) if not family.with_text else "no pooling: it projects by itself"
        raise ModelError(f"a {kind} model has no such pooling", where="option pooling", got=pooling, expected=expected)
    return pooling


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
    if family.reads == "sound":
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


def family_of(folder: ModelFolder, modality: str) -> tuple[str, Family]:
    """The model type of a folder with its family.

    Raises:
        ModelError: the folder has no such model, or one of another modality.
    """
    kind = str(folder.config().get("model_type", ""))
    served = [name for name, family in FAMILIES.items() if family.modality == modality]
    family = FAMILIES.get(kind)
    if family is not None and family.modality == modality:
        return kind, family
    reads = f", which reads {family.reads}{' and text' if family.with_text else ''}" if family else ""
    raise ModelError(
        f"model {folder.name!r} is not one that transformers-media runs with modality: {modality}",
        where=folder.path / "config.json",
        got=f"model_type {kind!r}{reads}" if kind else "no model_type",
        expected=f"one of {', '.join(served)}",
        do=f"set modality: {family.modality}, in a slot `of: {family.reads}`" if family else "use such a model",
    )


class SentenceTransformerImageEncoder:
    """One vector of length 1 for each picture and each text, float32 `[n, dimension]`.

    A string is always a text: the library itself would open one that names a file or an address.

    Raises:
        ModelError: the model cannot be found, or does not read both pictures and texts.
    """

    similarity: Similarity = "cosine"

    def __init__(self, **given: Any) -> None:
        options = SentenceTransformersImageOptions(**given)
        library = SentenceTransformersOptions(**options.model_dump(exclude={"truncate_dim", "batch_size"}))
        folder = find(library, organization=ORGANIZATION)
        check_dense(folder)
        self.name, self._options = folder.name, options
        self._model = load("SentenceTransformer", folder, library, outputs=_trial)
        modalities = self._model.modalities
        if not {"text", "image"} <= {*modalities}:
            instead = "sentence-transformers, modality: text"
            raise ModelError(
                f"model {folder.name!r} does not read both pictures and texts",
                where=folder.path,
                got=", ".join(map(str, modalities)),
                expected="text and image",
                do=f"use adapter: {instead if 'text' in modalities else 'transformers-media, modality: image'}",
            )
        self._lock = threading.Lock()
        self._prompts = prompts_of(self._model, library)
        folders = folder.module_folders()
        self._digests = fingerprints.digests(folders)
        self._processing = _processing(folder)
        full: int = self._by_library([{"text": "a"}], "").shape[1]
        self.dimension = check_width(options.truncate_dim, full, self.name) or full

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        processor = type(getattr(self._model.processor, "image_processor", self._model.processor)).__name__
        return fingerprints.fingerprint(
            weights=self._digests.weights,
            tokenizer=self._digests.tokenizer,
            pooling=[*pipeline_steps(self._model), "normalize", f"image({self._processing})"],
            prompts=self._prompts,
            max_length=self._model.max_seq_length,
            dimension=self.dimension,
            numerics=f"{numerics(self._model)} {'pillow' if processor.endswith('Pil') else 'torchvision'}",
        )

    def encode_query(self, inputs: Sequence[str | Content]) -> Floats:
        """Vectors of queries, texts and pictures mixed, float32 `[n, dimension]`."""
        return self._encode(inputs, self._prompts[0])

    def encode_document(self, inputs: Sequence[str | Content]) -> Floats:
        """Vectors of documents, float32 `[n, dimension]`."""
        return self._encode(inputs, self._prompts[1])

    def _encode(self, inputs: Sequence[str | Content], prompt: str) -> Floats:
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        named = [self._named(item) for item in inputs]
        for kind in ("text", "image"):
            places = [at for at, item in enumerate(named) if kind in item]
            if places:
                vectors[places] = unit(self._by_library([named[at] for at in places], prompt)[:, : self.dimension])
        return vectors

    def _named(self, item: str | Content) -> dict[str, Any]:
        """An input with its kind, so that the library guesses nothing from a string."""
        if isinstance(item, str):
            return {"text": item}
        if isinstance(item, np.ndarray) and item.ndim == 3:
            return {"image": Image.fromarray(middle(item))}
        raise ContractError(
            "adapter sentence-transformers with modality: image-text does not read this",
            where=f"model {self.name!r}",
            got=type(item).__name__ if not isinstance(item, np.ndarray) else f"an array {list(item.shape)}",
            expected="texts and pictures, uint8 [height, width, 3]",
            do="set `of: image` in the slot, or use an adapter for what the slot reads",
        )

    def _by_library(self, inputs: list[dict[str, Any]], prompt: str) -> Floats:
        """The library's vectors of inputs of one kind, with all dimensions."""
        with self._lock:
            vectors = self._model.encode(
                inputs, prompt=prompt, batch_size=self._options.batch_size, show_progress_bar=False
            )
        return np.asarray(vectors, np.float32)


def _trial(model: Any) -> Iterator[Any]:
    """What the model makes of a word and, if it reads pictures, of a picture."""
    inputs: list[dict[str, Any]] = [{"text": "word"}, {"image": Image.new("RGB", (48, 32), (128, 128, 128))}]
    for item in inputs:
        if not {*item} - {*model.modalities}:
            yield from answers(model, [item])


def _processing(folder: ModelFolder) -> str:
    """A digest of how the folder's modules make pictures their input."""
    found = []
    for part in folder.module_folders():
        whole = cast(dict[str, Any], fingerprints.read_json(part / "processor_config.json"))
        saved = whole.get("image_processor") or fingerprints.read_json(part / "preprocessor_config.json")
        found.append({key: saved[key] for key in PREPROCESSING if saved.get(key) is not None})
    return fingerprints.digest(found)[: fingerprints.DIGITS]
