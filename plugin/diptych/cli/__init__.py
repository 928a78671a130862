"""The `diptych` command. Importing this package imports no model library and no Qdrant client."""

from diptych.cli.app import app, main

__all__ = ["app", "main"]
