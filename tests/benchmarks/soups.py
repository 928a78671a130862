"""The mean of several models' weights: Wortsman et al., "Model soups", ICML 2022."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def mixed(models: Sequence[Any]) -> Any:
    """The first of torch modules of one shape, with the mean of all their weights."""
    weights = [model.state_dict() for model in models]
    with torch.no_grad():
        for name, value in models[0].state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.stack([own[name].clone() for own in weights]).mean(0))
    return models[0]
