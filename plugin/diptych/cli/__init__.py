"""The `diptych` command. Importing this package imports no model library and no Qdrant client.

Begin with `app`, which registers all commands; entry points of the group `diptych.commands` bring more. Commands only
read options and print: the work is done by the packages they call. What they share is in `run_command` (the session of
a call, and how errors become text and exit codes), `options` and `output`.
"""

from diptych.cli.app import app, main

__all__ = ["app", "main"]
