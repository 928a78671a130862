"""`lexlip_text`: a lexicon of unit vectors, first through a bottleneck without queries, then against a momentum queue.

Luo et al., "LexLIP: Lexicon-Bottlenecked Language-Image Pre-Training", ICCV 2023, for text alone; see
docs/research/methods/lexlip_text.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

import torch
from pydantic import Field, model_validator
from sentence_transformers.sparse_encoder.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from diptych.errors import ContractError
from diptych.protocols import Kind
from diptych.training import Registration
from diptych_experimental.momentum import MomentumEncoder, Queue, tensors_of
from diptych_training.lexicon import ActiveTerms, SparseLoss, blockwise, lexicon, max_logits, undecoded
from diptych_training.losses.base import Features, RetrievalLoss, SeededDraws
from diptych_training.losses.contrastive import contrastive
from diptych_training.options import AboveZero, Positive, RetrievalOptions, Section, Share, TrainingOptions
from diptych_training.recipes.base import RetrievalTraining
from diptych_training.recipes.splade import WHOLE
from diptych_training.relevance import Candidates, Relevance
from diptych_training.running import Fitted, RunFolder


class MomentumContrastiveLoss(RetrievalLoss):
    """Both directions' contrast with the twin's vectors of the batch and of the queue; what is relevant is no negative.

    Requirements: (query, positive, negative_1, ...) columns; labels: none, or ids `[B, 2 + H]`.

    Args:
        model: that is trained; the twin is a copy of it as it is at the first batch.
        tau: temperature.
        momentum: m of the twin.
        queue: vectors that are kept of each side.
        relevance, similarity: see `RetrievalLoss`.

    Raises:
        ContractError: a number that makes no sense.
    """

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.05,
        momentum: float = 0.99,
        queue: int = 1024,
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        if not (0 <= momentum < 1 and queue >= 1 and tau > 0):
            got = f"momentum {momentum}, queue {queue}, tau {tau}"
            where, expected = "MomentumContrastiveLoss", "0 <= momentum < 1, queue >= 1, tau > 0"
            raise ContractError("unusable options", where=where, got=got, expected=expected)
        self.tau, self.momentum = tau, momentum
        self._queues = (Queue(queue), Queue(queue))  # a tuple, so that they are no submodules
        self._slow = MomentumEncoder(model, momentum)
        self._twin_embeddings: list[Tensor] = []

    @property
    def queries(self) -> Queue:
        """The twin's vectors of the last queries."""
        return self._queues[0]

    @property
    def documents(self) -> Queue:
        """The twin's vectors of the last documents."""
        return self._queues[1]

    @property
    def twin(self) -> Any:
        """The slow copy of the encoder: initially a copy of the model as it is now."""
        return self._slow.network

    def state_aside(self) -> dict[str, Tensor]:
        """The state in checkpoints beside the trained weights: slow copy and queues."""
        parts = {
            "queries": tensors_of(self.queries),
            "documents": tensors_of(self.documents),
            "twin": self._slow.state(),
        }
        return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}

    def load_aside(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the state of `state_aside`; with an empty one the slow copy and the queues start anew."""
        twin = {name.removeprefix("twin."): value for name, value in state.items() if name.startswith("twin.")}
        self._slow.load(twin)
        for name, queue in (("queries", self.queries), ("documents", self.documents)) if state else ():
            queue.vectors, queue.ids = state[f"{name}.vectors"], state[f"{name}.ids"]

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch, which the slow copy encodes first."""
        batch = list(sentence_features)
        self.look_at(batch)
        return super().forward(batch, labels)

    def look_at(self, features: Sequence[Features]) -> None:
        """Update the slow copy, and let it encode the batch for the next `compute_loss_from_embeddings`."""
        self._twin_embeddings = self._slow.encoded(features, follow=self.training)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch that the slow copy has encoded.

        Raises:
            ContractError: it has not.
        """
        if [vectors.shape for vectors in self._twin_embeddings] != [column.shape for column in embeddings]:
            where, do = "MomentumContrastiveLoss", "call look_at with the batch first, as forward does"
            raise ContractError("the momentum encoder has not seen this batch", where=where, do=do)
        queries, documents = self.prepared(embeddings)
        slow_queries, slow_documents = self.prepared(self._twin_embeddings)
        candidates = self.candidates(embeddings, labels)
        own_ids = candidates.documents[candidates.own_column]
        relevant_documents = self.relevance(candidates.queries, self.documents.ids) | _same(own_ids, self.documents.ids)
        forward_loss = self._contrast(queries, slow_documents, candidates, self.documents, relevant_documents)
        relevant_queries = self.relevance(self.queries.ids, own_ids).T | _same(candidates.queries, self.queries.ids)
        diagonal, sisters = torch.arange(len(own_ids)).to(own_ids), candidates.sisters.T
        transposed = replace(candidates, positive=sisters, negative=~sisters, own_column=diagonal)
        backward_loss = self._contrast(
            documents[candidates.own_column], slow_queries, transposed, self.queries, relevant_queries
        )
        if self.training:
            self.queries.put(slow_queries, candidates.queries)
            self.documents.put(slow_documents, candidates.documents)
        self._twin_embeddings = []
        return (forward_loss + backward_loss) / 2

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {
            "tau": self.tau,
            "momentum": self.momentum,
            "queue": self.queries.size,
            "similarity": self.similarity,
        }

    def _contrast(
        self, vectors: Tensor, pool: Tensor, candidates: Candidates, queue: Queue, left_out: Tensor
    ) -> Tensor:
        """The loss in one direction; `left_out` `[B, held]` marks relevant entries of the queue."""
        similarity = vectors @ torch.cat([pool, queue.like(pool)]).T
        positive = torch.cat([candidates.positive, torch.zeros_like(left_out)], 1)
        widened = replace(candidates, positive=positive, negative=torch.cat([candidates.negative, ~left_out], 1))
        return contrastive(similarity / self.tau, widened.positive, widened.negative)


class LexLIPLoss(SparseLoss):
    """`MomentumContrastiveLoss` with FLOPS of unit vectors.

    Requirements: those of `MomentumContrastiveLoss`.

    Args:
        model: SparseEncoder that is trained.
        flops_weight: of both sides' penalties, at unit length.
        tau, momentum, queue, relevance: see `MomentumContrastiveLoss`.
    """

    def __init__(
        self,
        model: Any,
        *,
        flops_weight: float = 0.002,
        tau: float = 0.05,
        momentum: float = 0.99,
        queue: int = 1024,
        relevance: Relevance | None = None,
    ) -> None:
        main = MomentumContrastiveLoss(model, tau=tau, momentum=momentum, queue=queue, relevance=relevance)
        super().__init__(model, main, query_weight=flops_weight, document_weight=flops_weight, normalized=True)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The parts of a batch's loss by name; the trainer adds them."""
        features = [dict(column) for column in sentence_features]
        main: Any = self.loss
        main.look_at(features)
        parts: dict[str, Tensor] = super().forward(features, labels)
        return parts


def _same(ids: Tensor, queued: Tensor) -> Tensor:
    """Bool `[n, held]`: whether ids are equal; unknown ids are not."""
    return (ids[:, None] == queued.to(ids.device)[None]) & (ids >= 0)[:, None]


Variant: TypeAlias = Literal["nested", "released"]
MASKED, REPLACED = 0.8, 0.9  # of the released variant's gaps: masked below, another word between


class LexiconBottleneckLoss(torch.nn.Module):
    """The encoder's and the decoder's cross-entropy over what is masked, by name; the trainer adds them.

    The decoder belongs to the loss and is not saved with the model.

    | variant | gaps | the decoder reads and writes by |
    |---|---|---|
    | nested: LexMAE's | the encoder's are among the decoder's, all masked | positions, norm and head of its own |
    | released: LexLIP's code | independent; of ten one is another word, one stays | the encoder's embeddings and head |

    Args:
        model: SparseEncoder over a masked language model.
        encoder_masked, decoder_masked: shares of a text's tokens.
        decoder_layers: of the weak decoder.
        variant: see the table.
        seed: of what is masked.

    Raises:
        ContractError: shares that are none, a model without a masked language model or a mask token, or for `released`
            one whose embeddings or head are not found.
    """

    def __init__(
        self,
        model: Any,
        *,
        encoder_masked: float = 0.3,
        decoder_masked: float = 0.5,
        decoder_layers: int = 2,
        variant: Variant = "nested",
        seed: int = 0,
    ) -> None:
        super().__init__()
        where = "LexiconBottleneckLoss"
        require_shares(encoder_masked, decoder_masked, variant)
        self.model, self.shares, self.variant = model, (encoder_masked, decoder_masked), variant
        if not isinstance(self._output, torch.nn.Linear) or model.tokenizer.mask_token_id is None:
            got = type(self.network).__name__
            raise ContractError(
                "the model is not a masked language model", where=where, got=got, expected="...ForMaskedLM"
            )
        released = variant == "released"
        self.decoder = WeakDecoder.beside(self.network, layers=decoder_layers, bare=released)
        self._parts: tuple[Any, Any] | None = parts_of(self.network) if released else None  # no submodules of the loss
        self._mask_id, self._special = model.tokenizer.mask_token_id, sorted(model.tokenizer.all_special_ids)
        self._draws = SeededDraws(seed)

    @property
    def network(self) -> Any:
        """The masked language model that is trained."""
        return getattr(self._transformer, "auto_model", None)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Mapping[str, Tensor]:
        """`encoder_loss` and `decoder_loss` of a batch, scalars in float32.

        Args:
            sentence_features: tokenised columns; the first is read.
        """
        features = next(iter(sentence_features))
        ids, mask = features["input_ids"], features["attention_mask"].bool()
        encoder_gaps, decoder_gaps = self.gaps(ids, mask)
        vectors = self.vectors(features, encoder_gaps)
        table = self.network.get_input_embeddings()
        distribution = max_logits(vectors, self._output, mask).softmax(1)
        bottleneck = distribution @ table.weight.detach()
        restored = self.decoder(self._embedded(self.hidden(ids, decoder_gaps)), bottleneck, mask)[decoder_gaps]
        return {
            "encoder_loss": cross_entropy(self._decoded(vectors[encoder_gaps]).float(), ids[encoder_gaps]),
            "decoder_loss": cross_entropy(self._written(restored, table).float(), ids[decoder_gaps]),
        }

    def gaps(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens hidden from encoder and decoder, bool `[B, T]` each; at least one token of each text.

        Special tokens are always seen.
        """
        maskable = mask & ~torch.isin(ids, torch.tensor(self._special, device=ids.device))
        first = self._drawn(ids).masked_fill(~maskable, 2.0)
        second = first if self.variant == "nested" else self._drawn(ids).masked_fill(~maskable, 2.0)
        encoder, decoder = (
            ((draws == draws.min(1, keepdim=True).values) | (draws < share)) & maskable
            for draws, share in zip((first, second), self.shares, strict=True)
        )
        return encoder, decoder

    def hidden(self, ids: Tensor, gaps: Tensor) -> Tensor:
        """The ids with the gaps masked; if released as BERT does it: of ten one is another word, and one stays."""
        if self.variant == "nested":
            return ids.masked_fill(gaps, self._mask_id)
        draws, words = self._drawn(ids), (self._drawn(ids) * self._output.out_features).long()
        masked = ids.masked_fill(gaps & (draws < MASKED), self._mask_id)
        return torch.where(gaps & (draws >= MASKED) & (draws < REPLACED), words, masked)

    def vectors(self, features: Features, hidden: Tensor) -> Tensor:
        """The inputs of the encoder's decoder, `[B, T, width]`, for the masked text."""
        masked = {**features, "input_ids": self.hidden(features["input_ids"], hidden)}
        with undecoded(self._output):
            vectors: Tensor = self._transformer(masked)["token_embeddings"]
        return vectors

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        encoder, decoder = self.shares
        settings = {"encoder_masked": encoder, "decoder_masked": decoder, "decoder_layers": self.decoder.depth}
        return {**settings, "variant": self.variant}

    @property
    def _transformer(self) -> Any:
        return next(iter(self.model.children()))

    @property
    def _output(self) -> Any:
        network = self.network
        return network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else None

    def _drawn(self, ids: Tensor) -> Tensor:
        return torch.rand(ids.shape, generator=self._draws()).to(ids.device)

    def _embedded(self, ids: Tensor) -> Tensor:
        """What the decoder reads: words, or if released the encoder's embeddings of them with their places."""
        read = self.network.get_input_embeddings() if self._parts is None else self._parts[0]
        vectors: Tensor = read(ids)
        return vectors

    def _written(self, vectors: Tensor, table: Any) -> Tensor:
        """Logits of what the decoder restored: by the word embeddings, or if released by the encoder's head."""
        if self._parts is None:
            return linear(vectors, table.weight)
        with undecoded(self._output):
            return self._decoded(self._parts[1](vectors))

    def _decoded(self, vectors: Tensor) -> Tensor:
        """Decode with the weights directly, since within `blockwise` the decoder returns its input."""
        return linear(vectors, self._output.weight, self._output.bias)


def require_shares(encoder: float, decoder: float, variant: str) -> None:
    """Raise ContractError unless the shares can be drawn by the variant, which must be one."""
    where = "LexiconBottleneckLoss"
    if variant not in ("nested", "released"):
        raise ContractError("unknown variant", where=where, got=variant, expected="nested, released")
    nested = variant == "nested"
    if not (0 < encoder < 1 and 0 < decoder < 1 and (encoder <= decoder or not nested)):
        expected = "0 < encoder <= decoder < 1" if nested else "both above 0 and below 1"
        raise ContractError(
            "unusable shares", where=where, got=f"encoder {encoder}, decoder {decoder}", expected=expected
        )


def parts_of(network: Any) -> tuple[Any, Any]:
    """What a masked language model embeds ids with, positions included, and its head, which ends with the decoder.

    Raises:
        ContractError: the model is built otherwise.
    """
    embeddings = getattr(getattr(network, "base_model", None), "embeddings", None)
    head = getattr(network, "cls", None) or getattr(network, "lm_head", None)
    if embeddings is None or head is None:
        got, do = type(network).__name__, 'use a BERT or RoBERTa, or variant: "nested"'
        what = "this model's embeddings and head are not found, by which the released variant decodes"
        raise ContractError(what, where="LexiconBottleneckLoss", got=got, do=do)
    return embeddings, head


class WeakDecoder(torch.nn.Module):
    """A few layers that fill masked text, reading in place of the first token a mixture of the words' embeddings.

    The mixture is `b = a W`, a the text's distribution over the lexicon and W the encoder's word embeddings, without
    gradient. What it writes are vectors that the same embeddings decode. Shen et al., "LexMAE", ICLR 2023; with images,
    Luo et al., "LexLIP", ICCV 2023.

    Args:
        width: of the word embeddings.
        positions: tokens of the longest text.
        layers: few, so that the mixture is needed.
        heads: of attention; must divide the width.
        dropout: within the layers.
        bare: without positions, norm and output head of its own: words come with the encoder's, whose head decodes.
    """

    def __init__(
        self,
        width: int,
        positions: int,
        *,
        layers: int = 2,
        heads: int = 2,
        dropout: float = 0.1,
        bare: bool = False,
    ) -> None:
        super().__init__()
        self.bare = bare
        if not bare:
            self.positions = torch.nn.Parameter(torch.randn(positions, width) * 0.02)
            self.norm = torch.nn.LayerNorm(width)
            self.head = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.LayerNorm(width))
        layer = torch.nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=False
        )
        self.layers = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.depth = layers

    @classmethod
    def beside(cls, network: Any, *, layers: int = 2, bare: bool = False) -> WeakDecoder:
        """A decoder for the masked language model `network`: with its width, heads and length."""
        table, config = network.get_input_embeddings(), network.config
        heads = int(getattr(config, "num_attention_heads", 0) or 2)
        return cls(table.embedding_dim, int(config.max_position_embeddings), layers=layers, heads=heads, bare=bare)

    def forward(self, words: Tensor, bottleneck: Tensor, mask: Tensor) -> Tensor:
        """Vectors `[B, T, width]`, to be decoded by the word embeddings, or those of a bare one by the encoder's head.

        Args:
            words: embeddings of the masked text, `[B, T, width]`.
            bottleneck: `[B, width]`, in place of the first token.
            mask: bool `[B, T]`, which tokens are text.
        """
        inputs = torch.cat([bottleneck[:, None], words[:, 1:]], 1)
        if not self.bare:
            inputs = self.norm(inputs + self.positions[: words.shape[1]])
        vectors: Tensor = self.layers(inputs, src_key_padding_mask=~mask)
        return vectors if self.bare else self.head(vectors)


FIRST = "bottleneck"
Weight = Annotated[float, Field(ge=0)]
Ramp = Annotated[float, Field(gt=0, le=1)]


class FirstTrainingOptions(TrainingOptions):
    """Training options of the first phase."""

    epochs: AboveZero = Field(20.0, description="Passes over the documents.")


class BottleneckOptions(Section):
    """The first phase: masked words, through a few words of the lexicon. It sees the documents and no query."""

    encoder_masked: Share = Field(0.3, description="Share of a text's tokens masked for the encoder.")
    decoder_masked: Share = Field(0.5, description="Share of its tokens masked for the decoder.")
    decoder_layers: Positive = Field(2, description="Layers of the weak decoder, which is discarded.")
    variant: Variant = Field(
        "nested",
        description="nested: the decoder's masks include the encoder's, and it has its own head, as in LexMAE. "
        "released: as in LexLIP's code, see the method's page.",
    )
    training: FirstTrainingOptions = Field(default_factory=FirstTrainingOptions)


class LossOptions(Section):
    """The second phase; see `diptych_experimental.lexlip_text.MomentumContrastiveLoss`."""

    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")
    momentum: Share = Field(0.99, description="Momentum of the momentum encoder.")
    queue: Positive = Field(1024, description="Vectors of the momentum encoder to keep per side; 11,520 in the paper.")


class SparsityOptions(Section):
    """FLOPS of unit vectors, of both sides."""

    flops: Weight = Field(0.002, description="Weight of the FLOPS penalty.")
    ramp: Ramp = Field(0.3, description="Share of the steps in which the weight rises, by the square of the steps.")


class Options(RetrievalOptions):
    """Options of `lexlip_text`."""

    bottleneck: BottleneckOptions | None = Field(
        default_factory=BottleneckOptions, description="First phase (masked pre-training); null skips it."
    )
    loss: LossOptions = Field(default_factory=LossOptions)
    sparsity: SparsityOptions = Field(default_factory=SparsityOptions)

    whole: ClassVar[str] = WHOLE

    @model_validator(mode="after")
    def _first_whole(self) -> Self:
        if self.bottleneck is not None and self.bottleneck.training.mini_batch_size is not None:
            raise ValueError(f"bottleneck.training.mini_batch_size {WHOLE}")
        if self.bottleneck is not None and self.bottleneck.training.patience is not None:
            raise ValueError("bottleneck.training.patience: the first phase measures nothing, leave it out")
        return self


class LexLIPText(RetrievalTraining[Options]):
    """Trains a lexicon of unit vectors in two phases."""

    name: ClassVar[str] = "lexlip_text"
    kind: ClassVar[Kind] = "sparse"

    def data_steps(self) -> list[str]:
        """Train the first phase, then mine negatives with its model."""
        options = self.options.bottleneck
        if options is None or self.folder.stored(FIRST) is not None:
            return super().data_steps()
        steps = self.first_phase(options)
        self.folder.store(FIRST, [{"steps": steps}])
        sentence = f"the first phase took {steps:,} steps over {len(self.data.documents):,} documents"
        return [sentence, *super().data_steps()]

    def first_phase(self, options: BottleneckOptions) -> int:
        """Train the masked language model and save it in a folder of its own; returns the steps."""
        from transformers import set_seed

        set_seed(self.options.seed)
        model = lexicon(self.family.load(self.options.model, options.training, prompts=self.options.prompts))
        shares = options.model_dump(exclude={"training"})
        loss = LexiconBottleneckLoss(model, seed=self.options.seed, **shares)
        folder = RunFolder(FIRST, self.options.model_copy(update={"output": self._first}))
        fitted = self.fitted(model, self.texts(), loss, options=options.training, folder=folder, evaluator=None)
        model.save_pretrained(str(self._first), create_model_card=False)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        return fitted.steps

    def texts(self) -> Any:
        """One column: the documents that have a text."""
        import datasets

        return datasets.Dataset.from_dict({"text": [text for text in self.data.documents.values() if text]})

    def model(self) -> Any:
        """The lexicon after the first phase, with vectors of unit length."""
        source = str(self._first) if self.folder.stored(FIRST) is not None else self.options.model
        loaded = self.family.load(source, self.options.training, prompts=self.options.prompts)
        return lexicon(loaded, normalize=True)

    def fit(self, model: Any) -> Fitted:
        """The second phase."""
        rows, loss = self.rows(), self.loss(model)
        ramp = SpladeRegularizerWeightSchedulerCallback(loss, warmup_ratio=self.options.sparsity.ramp)
        if self.folder.stored(FIRST) is not None:
            self.remarks.append("What was measured before is the model after its first phase.")
        with blockwise(model):  # and so is the twin, a copy of it
            return self.fitted(model, rows, loss, more_callbacks=[ramp, ActiveTerms(loss)])

    def loss(self, model: Any) -> Any:
        """Both directions against the slow copy's batch and queue, and FLOPS."""
        options = self.options.loss.model_dump()
        return LexLIPLoss(model, flops_weight=self.options.sparsity.flops, relevance=self.data.relevance(), **options)

    def export(self, model: Any) -> list[Registration]:
        """Save it for the adapter of masked language models."""
        (saved,) = super().export(model)
        return [Registration(saved.adapter, {"trained_as": "masked-lm", **saved.options})]

    @property
    def _first(self) -> Path:
        return self.folder.path / FIRST
