"""The specs of the adapters that run models, without importing any model library."""

from __future__ import annotations

from diptych.protocols import Kind
from diptych.specs import AdapterSpec
from diptych_adapters.model_wheels import CARRIED

_PACKAGE = "diptych_adapters"
_OPTIONS = f"{_PACKAGE}.model_options"


def _torch(
    name: str, kind: Kind, factory: str, options: str, summary: str, instead: tuple[tuple[str, ...], ...] = ()
) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"{_PACKAGE}.{factory}.of",
        options=f"{_OPTIONS}:{options}",
        summary=summary,
        requires=("torch", "sentence_transformers"),
        instead=instead,
        extra="diptych[torch]",
        carried=CARRIED,
    )


def _fastembed(name: str, kind: Kind, factory: str, options: str, summary: str) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"{_PACKAGE}.{factory}.of",
        options=f"{_OPTIONS}:{options}",
        summary=summary,
        requires=("fastembed",),
        extra="diptych[fastembed]",
    )


SPECS = [
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
        "multi_vector:LateInteractionEncoder",
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
        "fastembed_models.dense:FastEmbedEncoder",
        "FastEmbedDenseOptions",
        "Dense models of FastEmbed, or a local folder with an ONNX file.",
    ),
    _fastembed(
        "fastembed-sparse",
        "sparse",
        "fastembed_models.sparse:FastEmbedSparseEncoder",
        "FastEmbedOptions",
        "Sparse models of FastEmbed: SPLADE++, BM42, miniCOIL.",
    ),
    _fastembed(
        "fastembed-multivector",
        "multivector",
        "fastembed_models.multivector:FastEmbedMultiVectorEncoder",
        "FastEmbedOptions",
        "ColBERT models of FastEmbed.",
    ),
    _fastembed(
        "fastembed-reranker",
        "reranker",
        "fastembed_models.reranker:FastEmbedReranker",
        "FastEmbedRerankerOptions",
        "Cross-encoders of FastEmbed, or a local folder with an ONNX file.",
    ),
]
