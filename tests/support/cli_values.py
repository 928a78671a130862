"""The config, the documents, the plugin and the program of tests of the command line."""

from __future__ import annotations

from pathlib import Path

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


NEW = "fake-dense, seed: 1}"  # another encoder in place of "fake-dense}"
COMMAND = """
import sys
from diptych import Registry
from diptych.cli import main
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin
fakes = Registry(fakes_plugin, installed=False)
if sys.argv[1:]: main(sys.argv[1:], session=Session(fakes))
"""  # the command in a process of its own, with the fakes


def edit(config: Path, old: str, new: str) -> None:
    """Replace a part of a config, which must be there."""
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


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
