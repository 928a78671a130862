"""The published schema says what the models and the adapters say."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from diptych import AdapterSpec, Registry, hookimpl
from diptych.config import json_schema
from diptych.config.models import Config


class Inner(BaseModel):
    depth: int = 1


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="Which model.")
    inner: Inner = Inner()


class Plugin:
    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        return [
            AdapterSpec(name="typed", kind="dense", factory="m:C", summary="Typed options.", options=Options),
            AdapterSpec(name="free", kind="sparse", factory="m:C", summary="Free options."),
            AdapterSpec(name="broken", kind="sparse", factory="m:C", summary="Gone.", options="no_such_module:X"),
            AdapterSpec(name="judge", kind="reranker", factory="m:C", summary="Reranks.", options=Options),
        ]


SCHEMA: dict[str, Any] = json_schema(Registry(Plugin, installed=False))


def test_every_reference_leads_to_a_definition() -> None:
    text = json.dumps(SCHEMA)
    wanted = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert wanted
    assert wanted <= set(SCHEMA["$defs"])


def test_a_slot_has_the_options_of_its_adapter_and_no_others() -> None:
    typed = SCHEMA["$defs"]["SlotConfig.typed"]
    assert set(typed["properties"]) == {
        *("adapter", "of", "query", "storage", "passages", "reduce", "options", "model", "inner")
    }
    assert typed["required"] == ["adapter", "model"]
    assert typed["additionalProperties"] is False
    assert typed["properties"]["adapter"] == {"const": "typed", "description": "Typed options."}


def test_adapters_without_declared_options_take_any() -> None:
    for name in ("free", "broken"):
        assert SCHEMA["$defs"][f"SlotConfig.{name}"]["additionalProperties"] is True


def test_slots_choose_among_encoders_and_rerank_among_rerankers() -> None:
    for place, names in (("SlotConfig", ["typed", "free", "broken"]), ("Rerank", ["judge"])):
        *known, other = SCHEMA["$defs"][place]["oneOf"]
        assert sorted(choice["$ref"] for choice in known) == sorted(f"#/$defs/{place}.{name}" for name in names)
        assert sorted(other["properties"]["adapter"]["not"]["enum"]) == sorted(names)


def test_every_field_of_the_config_is_described() -> None:
    assert set(SCHEMA["properties"]) == set(Config.model_fields)
    for name, definition in SCHEMA["$defs"].items():
        if name.startswith(("SlotConfig", "Rerank", "Inner")):
            continue
        for key, value in definition["properties"].items():
            assert key == "kind" or "$ref" in value or value.get("description"), f"{name}.{key} has no description"
