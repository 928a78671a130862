"""Options that a recipe refuses although its sections have them; `diptych recipes NAME` does not list these."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

OF_TEXTS = ("lora", "max_length", "untrained_share")  # options of the training section that only models of texts have


class RefusedOptions(BaseModel):
    """A base of a recipe's options, whose JSON Schema leaves out what the recipe refuses."""

    # Error text after "training.mini_batch_size": why the recipe needs whole batches; "" if it does not.
    whole: ClassVar[str] = ""
    # Error text after "prompts": why the recipe's model has none; "" if it has.
    unprompted: ClassVar[str] = ""
    # Whether all queries of a batch read the same documents, so that none can be cut out of its own.
    shared: ClassVar[bool] = False
    # Whether the model that is trained reads texts.
    reads_texts: ClassVar[bool] = True
    # Dotted names of further options and sections whose every value the recipe refuses.
    refused: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema without the refused options."""
        schema = handler(core_schema)
        refused = [
            *cls.refused,
            *["training.mini_batch_size"] * bool(cls.whole),
            *["prompts"] * bool(cls.unprompted),
            *["data.synthetic.cut"] * cls.shared,
            *[f"training.{name}" for name in OF_TEXTS if not cls.reads_texts],
        ]
        for name in refused:
            _remove(schema, name.split("."), handler)
        return schema


def _remove(schema: dict[str, Any], keys: list[str], handler: GetJsonSchemaHandler) -> None:
    """Remove the property that `keys` lead to; a section may be a reference, alone or beside null."""
    properties = handler.resolve_ref_schema(schema).get("properties", {})
    if len(keys) == 1:
        properties.pop(keys[0], None)
    elif section := properties.get(keys[0]):
        for part in section.get("anyOf", [section]):
            _remove(part, keys[1:], handler)
