"""`ConformanceFailure`, raised by a check of the conformance kit, and the decorator that makes a check."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from diptych.errors import DiptychError

if TYPE_CHECKING:
    from diptych.testing.checks.conditions import Conditions

Check: TypeAlias = "Callable[[Any, Conditions], None]"


class ConformanceFailure(DiptychError, AssertionError):
    """An adapter breaks its contract; `check` names the check, `got` and `expected` say how."""

    def __init__(self, what: str, *, got: object, expected: object, where: object = "") -> None:
        self.check = ""
        super().__init__(what, where=where, got=got, expected=expected)

    def named(self, check: str) -> ConformanceFailure:
        """This failure, with the check's name in front of its text."""
        self.check = check
        self.args = (f"{check}: {self._text()}",)
        return self


def conformance_check(function: Check) -> Check:
    """Make a check: its failures carry its name, and any other exception becomes a failure with its cause."""

    @functools.wraps(function)
    def run(adapter: Any, conditions: Conditions) -> None:
        try:
            function(adapter, conditions)
        except ConformanceFailure as failure:
            failure.named(function.__name__)
            raise
        except Exception as error:
            got = f"{type(error).__name__}: {error}"
            raised = ConformanceFailure("the adapter raised", got=got, expected="an answer that can be checked")
            raise raised.named(function.__name__) from error

    return run
