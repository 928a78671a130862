"""Payload index schemas, to Edge and back."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge
from qdrant_client import models

from qdrant_edge_client.convert.config import member

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
    return edge.TextIndexParams(
        **options,
        tokenizer=member(edge.TokenizerType, schema.tokenizer),
        stopwords=_stopwords(schema.stopwords),
        stemmer=_stemmer(schema.stemmer),
        memory=member(edge.Memory, schema.memory),
        scoring=_scoring(schema.scoring),
    )


def _stopwords(stopwords: models.Language | models.StopwordsSet | None) -> Any:
    if isinstance(stopwords, models.StopwordsSet):
        languages = {member(edge.Language, language) for language in stopwords.languages or ()}
        return edge.StopwordsSet(languages=languages, custom=set(stopwords.custom or ()))
    return member(edge.Language, stopwords)


def _stemmer(stemmer: models.SnowballParams | models.DisabledStemmerParams | None) -> Any:
    if isinstance(stemmer, models.SnowballParams):
        return edge.SnowballParams(member(edge.SnowballLanguage, stemmer.language))
    return edge.DisabledStemmer() if stemmer else None


def _scoring(scoring: bool | models.TextScoringParams | None) -> Any:
    if isinstance(scoring, models.TextScoringParams):
        return edge.TextScoringParams(member(edge.TextScoringType, scoring.type))
    return scoring


def _info(info: Any) -> models.PayloadIndexInfo:
    kind = _json_value(info.data_type)
    params = None if info.params is None else _params(kind, info.params)
    return models.PayloadIndexInfo(data_type=models.PayloadSchemaType(kind), params=params, points=info.points)


def _params(kind: str, edge_params: Any) -> Any:
    model = _MODELS[type(edge_params)]
    values = {name: _json_value(getattr(edge_params, name)) for name in model.model_fields if name != "type"}
    return model(type=kind, **values)


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
