"""A collection's settings in Edge's form: vectors, HNSW, quantization, optimizers, memory and payload indexes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any

import qdrant_edge as edge
from qdrant_client import models

from diptych.errors import StoreUnsupported

_PARAMS: dict[type[Any], type[Any]] = {
    models.KeywordIndexParams: edge.KeywordIndexParams,
    models.IntegerIndexParams: edge.IntegerIndexParams,
    models.FloatIndexParams: edge.FloatIndexParams,
    models.GeoIndexParams: edge.GeoIndexParams,
    models.BoolIndexParams: edge.BoolIndexParams,
    models.DatetimeIndexParams: edge.DatetimeIndexParams,
    models.UuidIndexParams: edge.UuidIndexParams,
}
_MODELS: dict[type[Any], type[Any]] = {edge_params: model for model, edge_params in _PARAMS.items()} | {
    edge.TextIndexParams: models.TextIndexParams
}

HNSW = models.HnswConfig(m=16, ef_construct=100, full_scan_threshold=10_000)  # Qdrant's own defaults


PLACEHOLDER = "placeholder"  # stands in a new collection without vectors, which EdgeConfig does not allow


def edge_config(config: models.CreateCollection) -> Any:
    """The `EdgeConfig` of a collection, with a sparse `PLACEHOLDER` when it has no vectors."""
    payload, ids = config.payload, config.id_tracker
    sparse = (config.sparse_vectors or {}) if has_vectors(config) else {PLACEHOLDER: models.SparseVectorParams()}
    return edge.EdgeConfig(
        vectors={name: _dense(params, config) for name, params in dense_vectors(config).items()},
        sparse_vectors={name: _sparse(params) for name, params in sparse.items()},
        on_disk_payload=config.on_disk_payload,
        hnsw_config=_edge_hnsw(merged_hnsw(config.hnsw_config)) if config.hnsw_config else None,
        quantization_config=quantization(config.quantization_config),
        optimizers=_optimizers(config.optimizers_config),
        payload_memory=member(edge.Memory, payload.memory) if payload else None,
        id_tracker_memory=member(edge.Memory, ids.memory) if ids else None,
    )


def dense_vectors(config: models.CreateCollection) -> Mapping[str, models.VectorParams]:
    """Dense and multi-vectors by name; the unnamed one is called ""."""
    vectors = config.vectors or {}
    return {"": vectors} if isinstance(vectors, models.VectorParams) else vectors


def has_vectors(config: models.CreateCollection) -> bool:
    """Whether points can have any vector."""
    return bool(dense_vectors(config) or config.sparse_vectors)


def vectors_of(dense: Mapping[str, models.VectorParams]) -> Any:
    """The reverse of `dense_vectors`: a lone unnamed vector stands by itself."""
    return dense[""] if set(dense) == {""} else dict(dense)


def merged_hnsw(diff: models.HnswConfigDiff | None) -> models.HnswConfig:
    """The defaults with the values that `diff` sets."""
    return HNSW.model_copy(update=diff.model_dump(exclude_none=True)) if diff else HNSW


def multivector(config: models.MultiVectorConfig | None) -> Any:
    """Edge's multi-vector comparator settings."""
    return edge.MultiVectorConfig(member(edge.MultiVectorComparator, config.comparator)) if config else None


def quantization(config: models.QuantizationConfig | None) -> Any:
    """Edge's scalar, product, binary or turbo quantization."""
    if config is None:
        return None
    if isinstance(config, models.ScalarQuantization):
        return _settings(edge.ScalarQuantizationConfig, config.scalar, type=edge.ScalarType)
    if isinstance(config, models.ProductQuantization):
        return _settings(edge.ProductQuantizationConfig, config.product, compression=edge.CompressionRatio)
    if isinstance(config, models.BinaryQuantization):
        of_binary, of_query = edge.BinaryQuantizationEncoding, edge.BinaryQuantizationQueryEncoding
        return _settings(edge.BinaryQuantizationConfig, config.binary, encoding=of_binary, query_encoding=of_query)
    if isinstance(config, models.TurboQuantization):
        return _settings(edge.TurboQuantQuantizationConfig, config.turbo, bits=edge.TurboQuantBitSize)
    raise StoreUnsupported("unknown quantization", got=type(config).__name__)


def _dense(params: models.VectorParams, config: models.CreateCollection) -> Any:
    diff = params.hnsw_config
    base = merged_hnsw(config.hnsw_config)
    return edge.EdgeVectorParams(
        size=params.size,
        distance=member(edge.Distance, params.distance),
        on_disk=params.on_disk,
        multivector_config=multivector(params.multivector_config),
        datatype=member(edge.VectorStorageDatatype, params.datatype),
        quantization_config=quantization(params.quantization_config),
        hnsw_config=_edge_hnsw(base.model_copy(update=diff.model_dump(exclude_none=True))) if diff else None,
        memory=member(edge.Memory, params.memory),
    )


def _sparse(params: models.SparseVectorParams) -> Any:
    index = params.index or models.SparseIndexParams()
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.full_scan_threshold,
        on_disk=index.on_disk,
        modifier=modifier(params.modifier),
        datatype=member(edge.VectorStorageDatatype, index.datatype),
        memory=member(edge.Memory, index.memory),
    )


def modifier(value: models.Modifier | None) -> Any:
    """Edge's IDF modifier, or None."""
    return edge.Modifier.Idf if value == models.Modifier.IDF else None


def _edge_hnsw(config: models.HnswConfig) -> Any:
    threads = config.max_indexing_threads or 0
    return _settings(edge.HnswIndexConfig, config.model_copy(update={"max_indexing_threads": threads}))


def _optimizers(diff: models.OptimizersConfigDiff | None) -> Any:
    if diff is None:
        return None
    of_servers = {"memmap_threshold", "flush_interval_sec", "max_optimization_threads"}
    return edge.EdgeOptimizersConfig(**diff.model_dump(exclude=of_servers))


def _settings(edge_kind: Any, config: Any, **kinds: Any) -> Any:
    """Edge's form of a model whose fields have the same names, `memory` and those of `kinds` being enums."""
    kinds = {"memory": edge.Memory, **kinds}
    values = {name: getattr(config, name) for name in type(config).model_fields}
    return edge_kind(**{k: member(kinds[k], value) if k in kinds else value for k, value in values.items()})


def member(edge_enum: Any, value: Enum | str | None) -> Any:
    """The member of `edge_enum` for `value`; None stays None.

    Raises:
        StoreUnsupported: Edge has no such member.
    """
    if value is None:
        return None
    text = value.value if isinstance(value, Enum) else str(value)
    edge_member = _members(edge_enum).get(_key(text))
    if edge_member is None:
        raise StoreUnsupported(
            f"Qdrant Edge has no {edge_enum.__name__} {text!r}",
            expected=", ".join(sorted(_members(edge_enum))),
            do="choose one of these, or use a server: store: http(s)://...",
        )
    return edge_member


@cache
def _members(edge_enum: Any) -> dict[str, Any]:
    names = (name for name in dir(edge_enum) if not name.startswith("_"))
    return {_key(name): getattr(edge_enum, name) for name in names}


def _key(name: str) -> str:
    return name.replace("_", "").lower()


def index_schema(schema: Any) -> Any:
    """Edge's schema of a payload index: a bare type, or a type with parameters."""
    if isinstance(schema, models.TextIndexParams):
        return _text(schema)
    params = _PARAMS.get(type(schema))
    if params is None:
        return member(edge.PayloadSchemaType, schema)
    options = schema.model_dump(exclude={"type", "memory"}, exclude_none=True)
    return params(**options, memory=member(edge.Memory, schema.memory))


def index_infos(edge_schema: dict[str, Any]) -> dict[str, models.PayloadIndexInfo]:
    """Edge's payload indexes in qdrant-client's models."""
    return {name: _info(info) for name, info in edge_schema.items()}


def _text(schema: models.TextIndexParams) -> Any:
    options = schema.model_dump(
        include={
            "min_token_len", "max_token_len", "lowercase", "ascii_folding", "phrase_matching",
            "on_disk", "enable_hnsw", "nested",
        },
        exclude_none=True,
    )  # fmt: skip
    stemmer, scoring = schema.stemmer, schema.scoring
    return edge.TextIndexParams(
        **options,
        tokenizer=member(edge.TokenizerType, schema.tokenizer),
        stopwords=_stopwords(schema.stopwords),
        stemmer=edge.SnowballParams(member(edge.SnowballLanguage, stemmer.language))
        if isinstance(stemmer, models.SnowballParams)
        else edge.DisabledStemmer()
        if stemmer
        else None,
        memory=member(edge.Memory, schema.memory),
        scoring=edge.TextScoringParams(member(edge.TextScoringType, scoring.type))
        if isinstance(scoring, models.TextScoringParams)
        else scoring,
    )


def _stopwords(stopwords: models.Language | models.StopwordsSet | None) -> Any:
    if isinstance(stopwords, models.StopwordsSet):
        languages = {member(edge.Language, language) for language in stopwords.languages or ()}
        return edge.StopwordsSet(languages=languages, custom=set(stopwords.custom or ()))
    return member(edge.Language, stopwords)


def _info(info: Any) -> models.PayloadIndexInfo:
    kind, given, params = _json_value(info.data_type), info.params, None
    if given is not None:
        model = _MODELS[type(given)]
        values = {name: _json_value(getattr(given, name)) for name in model.model_fields if name != "type"}
        params = model(type=kind, **values)
    return models.PayloadIndexInfo(data_type=models.PayloadSchemaType(kind), params=params, points=info.points)


def _json_value(value: Any) -> Any:
    """Edge's value as a JSON value."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, edge.StopwordsSet):
        languages = sorted(_json_value(language) for language in value.languages or ())
        return {"languages": languages, "custom": sorted(value.custom or ())}
    if isinstance(value, edge.SnowballParams):
        return {"type": "snowball", "language": _json_value(value.language)}
    if isinstance(value, edge.DisabledStemmer):
        return {"type": "none"}
    if isinstance(value, edge.TextScoringParams):
        return {"type": _json_value(value.type)}
    return str(value).rpartition(".")[2].lower()  # a member of an enum
