"""The config, the documents and the plugin of tests of the command line."""

from __future__ import annotations

from pydantic import BaseModel

from diptych import AdapterSpec, hookimpl
from spaces import PUPIL

CONFIG = """\
store: edge:./qdrant
collection: animals
slots:
  dense: {adapter: fake-dense}
  lexical: {adapter: fake-sparse}
search:
  limit: 3
"""
ANIMALS = {
    "cat": "the cat sleeps on the warm mat",
    "dog": "the dog barks at the post man",
    "owl": "the owl hunts mice at night",
    "hen": "the hen lays an egg every day",
}


class HeavyOptions(BaseModel, extra="forbid"):
    model: str = ""


class HeavyPlugin:
    """An adapter whose packages nobody has, and a student of `fake-dense`."""

    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        return [
            PUPIL,
            AdapterSpec(
                name="heavy",
                kind="dense",
                factory="no_such_package:Model",
                options=HeavyOptions,
                summary="needs what is not there",
                requires=("no_such_package",),
                extra="diptych[heavy]",
            ),
        ]
