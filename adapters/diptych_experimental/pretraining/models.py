"""Encoder and decoder of masked items, in the form that sentence-transformers' trainer takes.

The decoder reads the tokens of the visible patches and predicts the hidden ones. It has few layers and is discarded
afterwards: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from diptych.media import Modality
from diptych_experimental.pretraining.encoders import (
    BODIES,
    Body,
    EncoderShape,
    Grid,
    Masks,
    Policy,
    drawn_masks,
    positions,
)
from diptych_experimental.pretraining.media import Unlabelled
from diptych_training.losses.base import Features
from diptych_training.running.run import HeldOutEvaluator
from diptych_training.trained_module import TrainedModule

EXPLAINED = "explained variance"
DRAWS = 1234  # the seed of the masks that are measured by
BETA = 2.0  # of smooth l1, where it turns from squares to distances

Target: TypeAlias = Literal["pixels", "features"]
SAMPLE, BATCH = 2048, 128  # items whose mean vector is taken, and those that are encoded at a time


class Decoder(nn.Module):
    """A transformer of few layers over the visible tokens and a placeholder for each patch that it fills in.

    Args:
        grid: of the patches.
        given: width of the encoder's tokens.
        width, layers, heads: of the decoder.
        values: numbers it predicts of a patch.
    """

    def __init__(self, grid: Grid, given: int, *, width: int, layers: int, heads: int, values: int) -> None:
        super().__init__()
        self.into = nn.Linear(given, width)
        self.hidden = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("positions", positions(grid, width))
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers)
            )
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, values))

    def forward(self, tokens: Tensor, visible: Tensor, decoded: Tensor) -> Tensor:
        """Predictions `[n, decoded, values]` from tokens `[n, visible, given]` of the patches `visible`."""
        places = self.get_buffer("positions")
        states = torch.cat([self.into(tokens) + places[visible], self.hidden + places[decoded]], 1)
        found: Tensor = self.out(self.layers(states)[:, tokens.shape[1] :])
        return found


class MaskedModule(TrainedModule):
    """Encoder, decoder and heads as the only module of a model in training. The loss gives it the inputs.

    Args:
        body: the encoder.
        decoder: fills in hidden patches.
        seen: predicts the visible patches; None without such a loss.
        vector: predicts the teacher's vector from the mean token; None without a teacher.
    """

    def __init__(self, body: Body, decoder: Decoder, seen: nn.Module | None, vector: nn.Module | None) -> None:
        super().__init__()
        self.body, self.decoder, self.seen, self.vector = body, decoder, seen, vector

    def preprocess(self, inputs: list[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """No features: the inputs are empty."""
        return {"rows": torch.zeros(len(inputs))}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The features with `tokens` and `sentence_embedding`, their mean, of `inputs`.

        With `visible` and `decoded`, see `Masks`, of the visible patches alone, and with `predictions` of the others.
        """
        tokens = self.body.embedded(features["inputs"])
        visible = features.get("visible")
        if visible is not None:
            views = len(visible) // len(tokens)
            tokens = picked(tokens.repeat_interleave(views, 0), visible)
        tokens = self.body.encoded(tokens)
        found = {**features, "tokens": tokens, "sentence_embedding": tokens.mean(1)}
        if visible is not None:
            found["predictions"] = self.decoder(tokens, visible, features["decoded"])
        return found


def masked_model(
    shape: EncoderShape,
    modality: Modality,
    *,
    decoder: dict[str, int],
    target: Target,
    seen: bool,
    vector: bool,
    device: str,
) -> SentenceTransformer:
    """A model with random weights, for the trainer.

    Args:
        shape: of the encoder.
        modality: that it reads.
        decoder: its width, layers and heads.
        target: what is predicted; see `MaskedLoss`.
        seen, vector: whether the module has these heads.
        device: where it is trained.
    """
    body = BODIES[modality](shape)
    width, values = body.width, body.width if target == "features" else body.values
    filling = Decoder(body.grid, width, **decoder, values=values)
    heads = (_head(width, values) if seen else None, _head(width, width) if vector else None)
    module = MaskedModule(body, filling, *heads)
    return SentenceTransformer(modules=[module], device=device)


@torch.no_grad()
def centre(model: SentenceTransformer, items: Unlabelled) -> float:
    """Make the mean vector of items 0, so that cosines tell them apart.

    Returns:
        The variance of their vectors as a share of the squared length of the mean vector; infinite if that was 0.
    """
    module: Any = model[0]
    model.eval()
    parts = torch.arange(0, len(items), max(1, len(items) // SAMPLE)).split(BATCH)
    inputs = (items.inputs(part.tolist()).to(model.device) for part in parts)
    vectors = torch.cat([module({"inputs": entry})["sentence_embedding"].float() for entry in inputs])
    mean = vectors.mean(0)
    module.body.centre(mean)
    return float((vectors - mean).square().sum(1).mean() / mean.square().sum())


def _head(given: int, wanted: int) -> nn.Module:
    return nn.Sequential(nn.Linear(given, given), nn.LayerNorm(given), nn.GELU(), nn.Linear(given, wanted))


def picked(rows: Tensor, places: Tensor) -> Tensor:
    """The rows `[n, m, d]` at `places` `[n, m]` of each item of `rows` `[n, patches, d]`."""
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[2]))


class MaskedLoss(nn.Module):
    """`mse(hidden) + s smooth_l1(visible) + w (1 - cos)`, over the views of each item.

    Targets are the numbers of patches, those of pictures and clips with mean 0 and deviation 1 in each patch; or the
    teacher's tokens after a layer norm. The cosine is between the
    teacher's vector, the mean of its tokens, and what a head predicts from the mean token of each view.

    Args:
        model: that is trained; its only module is a `MaskedModule`.
        inputs: gives the inputs of some rows.
        policy, ratio, views, decoded: of the masks; see `drawn_masks`.
        target: `pixels`, the numbers of patches; `features`, the teacher's tokens.
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
        with torch.no_grad():  # the teacher's outputs for whole inputs, after its step
            taught = self._slow.outputs({"inputs": clean}, follow=self.training) if self._slow else {}
        views = len(masks.visible) // len(clean)
        targets = self.targets(clean, taught).repeat_interleave(views, 0)
        wanted = picked(targets, masks.decoded)
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
        """The targets of all patches, `[n, patches, values]`."""
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


def patch_targets(module: MaskedModule, inputs: Tensor) -> Tensor:
    """The numbers of patches `[n, patches, values]`, with mean 0 and deviation 1 each."""
    patches = module.body.patches(inputs).float()
    variance, mean = torch.var_mean(patches, -1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


class ReconstructionEvaluator(HeldOutEvaluator):
    """Fills in hidden patches of held-out items. The share of their variance that is explained chooses checkpoints.

    1 is a perfect prediction, 0 that of the mean of the patch everywhere. The masks are drawn
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
        training = model.training
        model.eval()
        missed = squares = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(DRAWS)
            for start in range(0, len(self._items), BATCH):
                found, wanted = self._filled(model, range(start, min(start + BATCH, len(self._items))))
                missed += float((found - wanted).square().sum())
                squares += float(wanted.square().sum())  # patches have the mean 0 already
        model.train(training)
        return {EXPLAINED: 1 - missed / max(squares, 1e-12)}

    def _filled(self, model: Any, rows: range) -> tuple[Tensor, Tensor]:
        """Predictions of the hidden patches of some items, and their targets."""
        module, target = model[0], next(model.parameters()).device
        inputs = self._items.inputs(rows).to(target)
        masks = drawn_masks("random", len(rows), module.body.grid, ratio=self._ratio, views=1, decoded=1.0)
        visible, decoded = masks.visible.to(target), masks.decoded.to(target)
        outputs = model({"inputs": inputs, "visible": visible, "decoded": decoded})
        return outputs["predictions"].float(), picked(patch_targets(module, inputs), decoded)


class MomentumEncoder:
    """Follows a model: `twin = m twin + (1 - m) model` before each batch of a training.

    He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020.

    It is no module, so that a loss neither trains it nor keeps it among its weights, and dropout stays off.

    Args:
        model: that is trained; the twin is a copy of it as it is when it is first needed, low-rank adapters included.
        momentum: m.
    """

    def __init__(self, model: Any, momentum: float) -> None:
        self.model, self.momentum = model, momentum
        self._network: Any = None
        self._pending: dict[str, Tensor] = {}

    @property
    def network(self) -> Any:
        """The slow copy."""
        if self._network is None:
            self._network = copy.deepcopy(self.model).requires_grad_(False).eval()
            self._restore()
        return self._network

    @torch.no_grad()
    def outputs(self, features: Features, *, follow: bool) -> Features:
        """All that the twin makes of a column; `follow` lets it take a step after the model first."""
        self.network.to(next(self.model.parameters()).device)
        if follow:
            for slow, fast in zip(self.network.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast.detach().to(slow), 1 - self.momentum)
        outputs: Features = self.network(dict(features))
        return outputs

    def state(self) -> dict[str, Tensor]:
        """The weights, by name."""
        return tensors_of(self.network)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the weights of `state`; with none the twin starts anew, as a copy of the model."""
        self._pending = dict(state)
        if self._network is not None:
            self._restore()

    @torch.no_grad()
    def _restore(self) -> None:
        state, self._pending = self._pending, {}
        for name, value in tensors_of(self._network).items() if state else ():
            value.copy_(state[name])


def tensors_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are shared once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
