"""Qdrant's vector parameters from an encoder's facts and the config's storage section."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from diptych.config.models import FirstStage, Hnsw, Quantization, Stored, VectorStorage
from diptych.errors import ConfigError
from diptych.protocols import Kind

_DISTANCE = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclidean": models.Distance.EUCLID,
}


def vector_params(
    encoder: Any, kind: Kind, storage: VectorStorage, *, indexed: bool = True
) -> models.VectorParams | models.SparseVectorParams:
    """Parameters of a slot's named vector. `indexed=False` builds no graph, for slots that only rescore.

    Raises:
        ConfigError: a datatype that would destroy the vectors.
    """
    if kind == "sparse":
        index = models.SparseIndexParams(
            on_disk=storage.on_disk, datatype=models.Datatype(storage.datatype) if storage.datatype else None
        )
        return models.SparseVectorParams(index=index, modifier=models.Modifier.IDF if encoder.uses_idf else None)
    # Behind a first stage the whole vectors only rescore candidates: a graph over them would cost memory for nothing.
    indexed = indexed and storage.first_stage is None
    params = _dense(encoder.dimension, _DISTANCE[encoder.similarity], storage, indexed, "storage")
    if kind == "multivector":
        params.multivector_config = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    return params


def first_stage_params(whole: models.VectorParams, first: FirstStage) -> models.VectorParams:
    """Parameters of the named vector that holds the first numbers of each vector that `whole` describes.

    Raises:
        ConfigError: it would be no shorter, or a datatype that would destroy the vectors.
    """
    if first.dimension >= whole.size:
        raise ConfigError(
            "the first stage is not shorter than the vectors",
            where="storage.first_stage.dimension",
            got=first.dimension,
            expected=f"less than the encoder's {whole.size}",
        )
    return _dense(first.dimension, whole.distance, first, True, "storage.first_stage")


def _dense(size: int, distance: models.Distance, stored: Stored, indexed: bool, where: str) -> models.VectorParams:
    if stored.datatype == "uint8" and distance == models.Distance.COSINE:
        raise ConfigError(
            "uint8 cannot hold vectors that are compared by cosine",
            where=f"{where}.datatype",
            got="numbers between -1 and 1, which would all become 0 or 1",
            do="use float16, or quantization: {kind: scalar}, which scales them",
        )
    return models.VectorParams(
        size=size,
        distance=distance,
        hnsw_config=_hnsw(stored.hnsw, indexed),
        quantization_config=_quantization(stored.quantization),
        on_disk=stored.on_disk,
        datatype=models.Datatype(stored.datatype) if stored.datatype else None,
    )


def changeable(storage: Stored) -> models.VectorParamsDiff:
    """The settings of a dense vector or multi-vector that can be changed in a live collection."""
    return models.VectorParamsDiff(
        hnsw_config=_hnsw(storage.hnsw, True),
        quantization_config=_quantization(storage.quantization),
        on_disk=storage.on_disk,
    )


def _hnsw(hnsw: Hnsw | None, indexed: bool) -> models.HnswConfigDiff | None:
    if hnsw is not None:
        return models.HnswConfigDiff(**hnsw.model_dump(exclude_none=True))
    return None if indexed else models.HnswConfigDiff(m=0)  # m=0 is Qdrant's way to build no graph


def _quantization(config: Quantization | None) -> Any:
    """The quantization config; options of other kinds than the chosen one are left out."""
    if config is None:
        return None
    ram = config.always_ram
    if config.kind == "scalar":
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=config.quantile, always_ram=ram)
        return models.ScalarQuantization(scalar=scalar)
    if config.kind == "binary":
        encoding = models.BinaryQuantizationEncoding(config.encoding) if config.encoding else None
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=ram, encoding=encoding))
    if config.kind == "product":
        ratio = models.CompressionRatio(config.compression)
        return models.ProductQuantization(product=models.ProductQuantizationConfig(compression=ratio, always_ram=ram))
    bits = models.TurboQuantBitSize(config.bits) if config.bits else None
    return models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(always_ram=ram, bits=bits))
