"""Help texts without Python's types: flags have no value, numbers are N, and an argument is called what it is."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

EXAMPLES = 3  # that an error shows
NAMES = {int: "N", float: "NUMBER", str: "TEXT"}


class PlainCommand(TyperCommand):
    """A command with plain help, whose errors of arguments show examples."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; those that are too many are refused with the examples of the help."""
        ctx.allow_extra_args = True  # left to this method
        left = super().parse_args(ctx, args)
        if left and not ctx.resilient_parsing:
            given, examples = " ".join(map(repr, left)), self._examples()
            lines = [f"Too many arguments: {given}. Put a text of several words in quotes. Examples:", *examples]
            ctx.fail("\n".join(lines))
        return left

    def _examples(self) -> list[str]:
        lines = (line.strip().replace("\\[", "[") for line in (self.help or "").splitlines())
        return [f"  {line}" for line in lines if line.startswith("diptych ")][:EXAMPLES]

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, as help shows them."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with paragraphs as wide as the terminal and not as their docstring."""
        self.help = re.sub(r"(?<=\S)\n(?=\S)", " ", self.help or "")
        super().format_help(ctx, formatter)


class PlainGroup(TyperGroup):
    """A group of commands with plain help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, as help shows them."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]


def _plain(parameter: Any) -> Any:
    """`Any`, since typer's parameters have no public type and one class for each kind."""
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
        parameter.metavar = name
        # typer would put its own brackets, dots and type around the name, whatever the name says already
        vars(parameter)["get_usage_pieces"] = lambda ctx: [name if parameter.required else f"[{name}]"]
        vars(parameter)["display_type_rich"] = lambda ctx: None
    elif getattr(parameter, "is_flag", False):
        parameter.metavar = ""
    elif parameter.metavar is None:
        annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
        parameter.metavar = NAMES.get(annotation) if isinstance(annotation, type) else None
    return parameter
