"""The `diptych` command. Importing this package imports no model library and no Qdrant client.

Begin with `app`, which registers all commands. Each command is one module, grouped by purpose: `setup`,
`collections`, `search`, `swap` and `train`. Entry points of the group `diptych.commands` bring more. Commands only
read options and print: the work is done by the packages they call. What commands share, such as output, progress and
exit codes, is in `ui`.
"""

from diptych.cli.app import app, main

__all__ = ["app", "main"]
