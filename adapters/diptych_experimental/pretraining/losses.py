"""`MaskedLoss`: an encoder learns to fill in what is hidden of pictures, clips and series.

MAE (He et al., CVPR 2022); DMJD, which also predicts what is visible (Ma et al., 2022); VideoMAE V2 (Wang et al., CVPR
2023); QualityFM, whose teacher sees the clean signal (after its abstract).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diptych.errors import ContractError
from diptych_experimental.pretraining.masks import Masks, Policy, drawn_masks
from diptych_experimental.pretraining.media import Unlabelled
from diptych_experimental.pretraining.models import MaskedModule, SpectrumHead, Target, picked
from diptych_training.losses.common.extra_negatives import MomentumEncoder
from diptych_training.running.evaluation import HeldOutEvaluator

EXPLAINED = "explained variance"
BATCH, DRAWS = 128, 1234  # items that are measured at a time, and the seed of their masks
BETA = 2.0  # of smooth l1, where it turns from squares to distances


class MaskedLoss(nn.Module):
    """`mse(hidden) + s smooth_l1(visible) + w (1 - cos)`, over the views of each item.

    Targets are the numbers of patches, those of pictures and clips with mean 0 and deviation 1 in each patch; or the
    teacher's tokens after a layer norm; or the spectrum of the whole window of a series. The cosine is between the
    teacher's vector, the mean of its tokens, and what a head predicts from the mean token of each view.

    Args:
        model: that is trained; its only module is a `MaskedModule`.
        inputs: gives the inputs of some rows.
        policy, ratio, views, decoded: of the masks; see `drawn_masks`.
        target: `pixels`, the numbers of patches; `features`, the teacher's tokens; `spectrum`, see `SpectrumHead`.
        teacher: `none`; `ema`, a moving average of the encoder that sees the whole input; `clean`, the same, while
            the encoder sees it corrupted.
        momentum: of the average.
        seen: s.
        vector: w.
        corrupt: corrupts inputs.
    """

    def __init__(
        self,
        model: Any,
        inputs: Callable[[Sequence[int]], Tensor],
        *,
        policy: Policy,
        ratio: float,
        views: int,
        decoded: float,
        target: Target,
        teacher: Literal["none", "ema", "clean"],
        momentum: float,
        seen: float,
        vector: float,
        corrupt: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.model = model
        self._inputs, self._corrupt = inputs, corrupt
        self._masks = {"ratio": ratio, "views": views, "decoded": decoded}
        self._policy: Policy = policy
        self._target, self._teacher, self._seen, self._vector = target, teacher, seen, vector
        self._slow = MomentumEncoder(model, momentum) if teacher != "none" else None

    @property
    def module(self) -> MaskedModule:
        """Encoder, decoder and heads."""
        module: MaskedModule = self.model[0]
        return module

    def forward(self, sentence_features: Iterable[Mapping[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of the rows that `labels` `[B]` names."""
        clean = self._inputs(labels.tolist()).to(labels.device)
        masks = self.masks(len(clean), labels.device)
        given = self._corrupt(clean) if self._teacher == "clean" else clean
        outputs = self.model({"inputs": given, **masks._asdict()})
        taught = self._taught(clean)
        views = len(masks.visible) // len(clean)
        targets = self.targets(clean, taught).repeat_interleave(views, 0)
        wanted = self.module.decoder.wanted(targets, masks.decoded)
        loss = nn.functional.mse_loss(outputs["predictions"].float(), wanted)
        if self.module.seen is not None:
            found = self.module.seen(outputs["tokens"]).float()
            loss = loss + self._seen * nn.functional.smooth_l1_loss(found, picked(targets, masks.visible), beta=BETA)
        if self.module.vector is not None:
            found = self.module.vector(outputs["sentence_embedding"]).float()
            vectors = taught["sentence_embedding"].float().repeat_interleave(views, 0)
            loss = loss + self._vector * (1 - nn.functional.cosine_similarity(found, vectors)).mean()
        return loss

    def masks(self, items: int, device: Any) -> Masks:
        """Masks of a batch."""
        drawn = drawn_masks(self._policy, items, self.module.body.grid, **self._masks)  # type: ignore[arg-type]  # by name
        return Masks(*(part.to(device) for part in drawn))

    @torch.no_grad()
    def targets(self, inputs: Tensor, taught: Mapping[str, Tensor]) -> Tensor:
        """The targets of all patches, `[n, patches, values]`; spectra are `[n, 1, values]`."""
        if self._target == "features":
            return nn.functional.layer_norm(taught["tokens"].float(), taught["tokens"].shape[-1:])
        return patch_targets(self.module, inputs)

    def state_aside(self) -> dict[str, Tensor]:
        """The teacher's weights, for checkpoints."""
        return self._slow.state() if self._slow else {}

    def load_aside(self, state: Mapping[str, Tensor]) -> None:
        """Continue with this teacher."""
        if self._slow:
            self._slow.load(state)

    @torch.no_grad()
    def _taught(self, inputs: Tensor) -> Mapping[str, Tensor]:
        """The teacher's outputs for whole inputs, after its step; empty without a teacher."""
        return self._slow.outputs({"inputs": inputs}, follow=self.training) if self._slow else {}


def patch_targets(module: MaskedModule, inputs: Tensor) -> Tensor:
    """The numbers of patches `[n, patches, values]`, those of pictures and clips with mean 0 and deviation 1 each.

    Where the module predicts spectra, those of the windows, `[n, 1, values]`.
    """
    if isinstance(module.decoder, SpectrumHead):
        return module.decoder.targets(inputs.float())
    patches = module.body.patches(inputs).float()
    if len(module.body.axes) == 1:
        return patches
    variance, mean = torch.var_mean(patches, -1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


class ReconstructionEvaluator(HeldOutEvaluator):
    """Fills in hidden patches of held-out items. The share of their variance that is explained chooses checkpoints.

    1 is a perfect prediction, 0 that of the mean of the patch everywhere, or of the mean spectrum. The masks are drawn
    at random from a fixed seed, so that they are the same at every evaluation.

    Args:
        items: held out.
        ratio: of places that are hidden.
    """

    def __init__(self, items: Unlabelled, ratio: float) -> None:
        super().__init__(None)
        self._items, self._ratio, self.primary_metric = items, ratio, EXPLAINED

    @torch.no_grad()
    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure."""
        spectra, training = isinstance(model[0].decoder, SpectrumHead), model.training
        if spectra and len(self._items) < 2:
            raise ContractError(
                "there are too few held-out items to measure spectra",
                where="data.share",
                got=f"{len(self._items)} series",
                expected="two or more, since what is measured is how they differ from their mean",
                do="raise data.share or give more series",
            )
        model.eval()
        missed, squares, count = 0.0, 0.0, 0
        total: Tensor | float = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(DRAWS)
            for start in range(0, len(self._items), BATCH):
                found, wanted = self._filled(model, range(start, min(start + BATCH, len(self._items))))
                missed += float((found - wanted).square().sum())
                squares, count = squares + float(wanted.square().sum()), count + len(wanted)
                if spectra:  # patches have the mean 0 already
                    total = total + wanted.sum(0)
        model.train(training)
        present = squares - float(torch.as_tensor(total).square().sum()) / max(count, 1)
        return {EXPLAINED: 1 - missed / max(present, 1e-12)}

    def _filled(self, model: Any, rows: range) -> tuple[Tensor, Tensor]:
        """Predictions of the hidden patches of some items, and their targets."""
        module, target = model[0], next(model.parameters()).device
        inputs = self._items.inputs(rows).to(target)
        masks = drawn_masks("random", len(rows), module.body.grid, ratio=self._ratio, views=1, decoded=1.0)
        visible, decoded = masks.visible.to(target), masks.decoded.to(target)
        outputs = model({"inputs": inputs, "visible": visible, "decoded": decoded})
        return outputs["predictions"].float(), module.decoder.wanted(patch_targets(module, inputs), decoded)
