"""What the entry point names. It says what the package brings; the encoder is imported only when it is made."""

from __future__ import annotations

import diptych


@diptych.hookimpl
def diptych_register_adapters() -> list[diptych.AdapterSpec]:
    """The adapter `wordhash`."""
    return [
        diptych.AdapterSpec(
            name="wordhash",
            kind="dense",
            factory="diptych_example_wordhash.encoder:WordHash",
            summary="hashed words, an example of an adapter in a package of its own",
            facts={"similarity": "cosine"},
        )
    ]
