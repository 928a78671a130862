"""The JSON Schema of `diptych.yaml`, with the options of every adapter at hand: editors complete and check with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diptych.config.models import Config, SlotConfig
from diptych.config.stages import Rerank
from diptych.errors import RegistryError
from diptych.plugins.anchor_scores import ANCHORS
from diptych.plugins.factory import options_model
from diptych.specs import AdapterSpec

if TYPE_CHECKING:
    from diptych.registry import Registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANY_OPTIONS: dict[str, Any] = {"additionalProperties": True}


def json_schema(registry: Registry) -> dict[str, Any]:
    """The schema; an adapter that is not in `registry` may have any options."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    specs = registry.specs()
    encoders = [spec for spec in specs if spec.kind != "reranker"]
    rerankers = [spec for spec in specs if spec.kind == "reranker"]
    for model, fitting in ((SlotConfig, [*encoders, *rerankers]), (Rerank, rerankers)):
        definitions[model.__name__] = _one_per_adapter(definitions, model, fitting)
    return {"$schema": DIALECT, **schema, "title": "diptych.yaml"}


def _one_per_adapter(definitions: dict[str, Any], model: type, specs: Sequence[AdapterSpec]) -> Any:
    """One schema per adapter, told apart by the adapter's name, and one for all other names."""
    base = definitions[model.__name__]
    properties = base["properties"]
    choices: list[dict[str, Any]] = []
    for spec in specs:
        name = f"{model.__name__}.{spec.name}"
        definitions[name] = _with_options(base, properties, spec, definitions)
        choices.append({"$ref": f"#/$defs/{name}"})
    names = [spec.name for spec in specs]
    other_properties: dict[str, Any] = {**properties, "adapter": {"type": "string", "not": {"enum": names}}}
    choices.append({"type": "object", "properties": other_properties, "required": ["adapter"], **ANY_OPTIONS})
    return {"description": base["description"], "oneOf": choices}


def _with_options(
    base: dict[str, Any], properties: dict[str, Any], spec: AdapterSpec, definitions: dict[str, Any]
) -> dict[str, Any]:
    adapter: dict[str, Any] = {"const": spec.name, "description": spec.summary}
    result: dict[str, Any] = {"type": "object", "description": spec.summary, "required": ["adapter"]}
    options = _options_schema(spec)
    if options is None:
        any_options = {"properties": {**properties, "adapter": adapter}, **ANY_OPTIONS}
        return {**result, "required": ["adapter", *_needed(spec, properties)], **any_options}
    definitions.update(options.pop("$defs", {}))
    required = [*base["required"], *options.get("required", []), *_needed(spec, properties)]
    own = {name: value for name, value in options.get("properties", {}).items() if name not in properties}
    merged = {**properties, "adapter": adapter, **own}
    return {**result, "properties": merged, "required": required, "additionalProperties": False}


def _needed(spec: AdapterSpec, properties: dict[str, Any]) -> list[str]:
    """What a reranker needs beside its options: in a slot, anchors."""
    return [ANCHORS] if spec.kind == "reranker" and ANCHORS in properties else []


def _options_schema(spec: AdapterSpec) -> dict[str, Any] | None:
    """The options as JSON Schema; None when the adapter declares none or they cannot be imported."""
    try:
        model = options_model(spec)
    except RegistryError:
        return None
    return model.model_json_schema() if model else None
