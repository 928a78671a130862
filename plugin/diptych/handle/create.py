"""Creates collections: a named vector for each slot with its parameters, payload indexes, and the metadata."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from qdrant_client import models

from diptych.config.models import PopulateConfig, SearchConfig
from diptych.config.storage import FirstStage, Hnsw, Quantization, Stored, VectorStorage
from diptych.errors import CollectionError, ConfigError
from diptych.handle.view import View
from diptych.metadata.models import CollectionMetadata, Event, Prefix, Reading, State, Tenancy, vector_name
from diptych.protocols import Kind, Statistics
from diptych.registry import Registry
from diptych.slots.slot import Slot

_DISTANCE = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclidean": models.Distance.EUCLID,
}

Params: TypeAlias = models.VectorParams | models.SparseVectorParams


def first_metadata(
    slots: Mapping[str, Slot],
    statistics: Mapping[str, Statistics],
    reading: Reading,
    search: SearchConfig,
    tenancy: Tenancy | None = None,
) -> CollectionMetadata:
    """The metadata of a new collection. Loads and calibrates the encoders.

    Args:
        statistics: per slot that needs it, the measure of the whole corpus.
    """
    generations = {
        name: slot.describe(
            number=1,
            vector=vector_name(name, slot.kind, 1),
            reading=reading.model_copy(update={"modality": slot.config.of}),
            statistics=statistics.get(name),
        )
        for name, slot in slots.items()
    }
    live = State(slots=generations)
    return CollectionMetadata(
        live=live,
        numbers=dict.fromkeys(slots, 1),
        history=(Event(what="created", when=timestamp(), by=who(), slots=live.encoders()),),
        search=search.model_dump(mode="json"),
        tenancy=tenancy,
    )


def params_of(slot: Slot, registry: Registry, retrieved: Iterable[str]) -> Params:
    """Qdrant's parameters for the slot's vector, after plugins had a chance to change them.

    Args:
        retrieved: slots that provide candidates; other multi-vector slots need no graph.
    """
    indexed = slot.kind != "multivector" or slot.name in retrieved
    params = vector_params(slot.encoder, slot.kind, slot.config.storage, indexed=indexed)
    spec = registry.spec(slot.config.adapter)
    return registry.hook.diptych_vector_params(spec=spec, params=params) or params


def named_params(slot: Slot, registry: Registry, retrieved: Iterable[str]) -> dict[str, Params]:
    """Parameters of all named vectors of the slot: one, two with a first stage, none for a text index."""
    if slot.kind == "text_index":
        return {}
    whole, storage = params_of(slot, registry, retrieved), slot.config.storage
    first = Prefix.of(slot.vector, storage.model_dump())
    if first is None or storage.first_stage is None or isinstance(whole, models.SparseVectorParams):
        return {slot.vector: whole}
    return {slot.vector: whole, first.vector: first_stage_params(whole, storage.first_stage)}


def vectors_of(
    slots: Mapping[str, Slot], registry: Registry, retrieved: Iterable[str]
) -> tuple[dict[str, models.VectorParams], dict[str, models.SparseVectorParams]]:
    """The dense and the sparse named vectors of these slots."""
    dense: dict[str, models.VectorParams] = {}
    sparse: dict[str, models.SparseVectorParams] = {}
    for slot in slots.values():
        for vector, params in named_params(slot, registry, retrieved).items():
            if isinstance(params, models.SparseVectorParams):
                sparse[vector] = params
            else:
                dense[vector] = params
    return dense, sparse


def ensure_indexes(view: View, config: PopulateConfig, have: Mapping[str, models.PayloadIndexInfo]) -> None:
    """Create the payload indexes that are not among `have`: all of them at first, later those that a crash left out.

    Raises:
        CollectionError: a field is indexed as another type.
    """
    client, name = view.client, view.name
    # First, before any point: only segments that are built with this index keep a tenant's points together.
    if view.tenancy is not None:
        tenant_field = view.layout.field(view.tenancy.field)
        if tenant_field in have:
            _require_type(have[tenant_field], "keyword", f"collection {name!r}, tenant.field {tenant_field}")
        else:
            index = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            client.create_payload_index(name, tenant_field, field_schema=index)
    for field, schema in config.indexes.items():
        if view.tenancy and field == view.tenancy.field:
            continue  # has its index
        if field not in have:
            client.create_payload_index(name, field, field_schema=models.PayloadSchemaType(schema))
        else:
            _require_type(have[field], schema, f"collection {name!r}, populate.indexes.{field}")
    for slot in view.slots.values():
        if slot.kind == "text_index" and slot.vector not in have:
            client.create_payload_index(name, slot.vector, field_schema=slot.encoder.index_params())


def _require_type(index: models.PayloadIndexInfo, schema: str, where: str) -> None:
    if (found := index.data_type.value) != schema:
        do = "restore it, or drop the index with the Qdrant client and populate again"
        raise CollectionError("a field is indexed as another type", where=where, got=schema, expected=found, do=do)


def timestamp() -> str:
    """The current time in UTC, in the format of histories."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """The current user and machine, in the format of histories."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


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
