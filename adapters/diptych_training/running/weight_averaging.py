"""Weights between those of the untrained and of the trained model.

Wortsman et al., "Robust Fine-tuning of Zero-shot Models", CVPR 2022: a straight line between the two keeps most of what
was learned and most of what the model could do on other data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class Untrained:
    """A copy of a model's weights as they are now.

    Args:
        model: any module; the copy takes as much memory again.
        new: parameters that no training has seen, such as those of a new head: there is nothing in them to keep.
    """

    def __init__(self, model: Any, new: Iterable[torch.nn.Parameter] = ()) -> None:
        unseen = {id(value) for value in new}
        kept = ((name, value) for name, value in model.named_parameters() if id(value) not in unseen)
        self._weights = {name: value.detach().clone() for name, value in kept}

    def mix_into(self, model: Any, share: float) -> None:
        """Make each weight `share` of the copy's and the rest of its own, in place; weights the copy lacks stay."""
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in self._weights:
                    value.lerp_(self._weights[name], share)
