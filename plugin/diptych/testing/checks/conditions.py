"""`Conditions`: the inputs that a check uses, and the differences it tolerates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from diptych.errors import DiptychError
from diptych.protocols import Kind

Check: TypeAlias = "Callable[[Any, Conditions], None]"

Side: TypeAlias = Literal["query", "document"]
Triple: TypeAlias = tuple[str, str, str]  # query, a document that answers it, one that does not
Known: TypeAlias = tuple[Side, str, tuple[float, ...]]  # side, text, the first numbers of its vector

TEXTS: tuple[str, ...] = (
    "convert audio files",
    "a",
    "How do I mount an encrypted disk at boot?",
    "Package managers resolve dependencies, fetch the files, verify the signatures, unpack the files. " * 6,
    "Straße, naïve café; жаркое лето, 東京の天気",
    "games",
)
TRIPLES: tuple[Triple, ...] = (
    ("convert audio files", "Convert audio files from one format to another.", "Watch the weather in your city."),
    ("mount an encrypted disk", "How to mount an encrypted disk.", "A chess game with a strong computer player."),
)
ODD_TEXTS: tuple[str, ...] = ("\n\t", "🎈" * 9, "x" * 5000, "0", "<b>&amp;</b> \x00 \u200b", "e\u0301 = é")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Inputs and tolerances. A tolerance is a share of the largest number of the vector, or of the scores.

    Args:
        kind: the contract.
        texts: inputs, all different, short and long.
        triples: `(query, document that answers it, document that does not)`.
        known: vectors known from elsewhere, such as the model card: `(side, text, first numbers)`.
        repeat_tolerance: between two calls with the same inputs.
        batch_tolerance: between an input alone and the same input in a batch.
        norm_tolerance: between a vector's length and 1, when it is declared normalised.
        known_tolerance: between a known number and the encoder's.
        normalized, asymmetric: what the adapter declares; None when it does not say.
        sibling: an encoder that differs from the tested one in its queries alone, such as in their prompt.
        modality: of the media that an encoder reads, for the checks of media.
        takes_texts: whether queries of an encoder of media may also be texts.
    """

    kind: Kind
    texts: tuple[str, ...] = TEXTS
    triples: tuple[Triple, ...] = TRIPLES
    known: tuple[Known, ...] = ()
    repeat_tolerance: float = 1e-6
    batch_tolerance: float = 1e-4
    norm_tolerance: float = 1e-3
    known_tolerance: float = 1e-3
    normalized: bool | None = None
    asymmetric: bool | None = None
    sibling: Any = None
    modality: str = "image"
    takes_texts: bool = False

    def declared(self, adapter: Any, fact: Literal["normalized", "asymmetric"]) -> bool | None:
        """The fact as stated here, else from the adapter's optional attribute, else None."""
        stated = getattr(self, fact)
        value = stated if stated is not None else getattr(adapter, fact, None)
        return value if isinstance(value, bool) else None


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
