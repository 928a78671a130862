"""`contrastive`: a dense encoder by one of the losses of the contrastive family, with mined negatives."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from diptych.errors import ConfigError
from diptych_training.losses import ContrastiveLoss, HybridNCELoss, Mixing, RetrievalLoss, with_extra_negatives
from diptych_training.losses.contrastive import Groups
from diptych_training.options import AboveZero, Positive, RetrievalOptions, Section, Share
from diptych_training.recipes.common.base import RetrievalTraining
from diptych_training.recipes.common.negatives import documents_of
from diptych_training.rows import NoDuplicates

MOST_CELLS = 2**28  # of the table of groups, four bytes each
SHARED = {"tau", "symmetric", "margin"}  # options of `loss` that Hybrid-NCE has, too


class LossOptions(Section):
    """Options of the contrastive family; see `diptych_training.losses.contrastive`."""

    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")
    learn_tau: bool = Field(False, description="Train the temperature, too.")
    reduction: Literal["decoupled", "supcon", "balanced"] = Field(
        "decoupled", description="Positives in the denominator of one of them: itself, the sum of all, or their mean."
    )
    label_smoothing: Share = Field(0.0, description="Share of the target given to the negatives, 0 to 1.")
    symmetric: bool = Field(False, description="Also train documents to find their queries.")
    blocks: tuple[Literal["qd", "qq", "dd", "dq"], ...] = Field(("qd",), description="Pairs that serve as negatives.")
    margin: AboveZero | None = Field(None, description="Ignore negatives more similar than the positive by this.")


class MixingOptions(Section):
    """Hard negatives mixed of others (MoCHi); see `diptych_training.losses.extra_negatives`."""

    hardest: Positive = Field(64, description="Hardest negatives per query, of batch and queue, to mix.")
    pairs: int = Field(64, ge=0, description="Mixes of two negatives.")
    with_query: int = Field(16, ge=0, description="Mixes of a negative and the query.")
    start_step: int = Field(0, ge=0, description="Step at which mixing begins.")


class HybridOptions(Section):
    """Negatives that weigh by their hardness (Hybrid-NCE); see `diptych_training.losses.contrastive`."""

    beta: float = Field(0.1, ge=0, description="Extra weight of hard negatives; 0 weighs all equally.")
    alpha: AboveZero = Field(1.0, description="Weight of the positives in the denominator.")
    groups: str | None = Field(
        None,
        description="Metadata key with a value or a list, such as tags. Documents that share values with a query's "
        "positive count as weaker positives.",
    )
    further: float = Field(0.2, ge=0, description="Weight of weaker positives, times their overlap.")
    iou_min: float = Field(1.0, gt=0, le=1, description="Minimum overlap, shared / all values; 1 means equal.")

    @model_validator(mode="after")
    def _groups_to_weigh(self) -> Self:
        unused = self.changed("further", "iou_min")
        if self.groups is None and unused:
            raise ValueError(f"hybrid.{' and hybrid.'.join(unused)}: without hybrid.groups there are none")
        return self


class Options(RetrievalOptions):
    """Options of `contrastive`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    mixing: MixingOptions | None = Field(None, description="Mix the hardest negatives into further ones.")
    queue: int = Field(0, ge=0, description="Documents of earlier batches to use as further negatives.")
    queue_momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Momentum of a slow copy of the encoder that makes the queue's vectors, such as 0.999, and encodes"
        " each batch once more; null queues the encoder's own vectors.",
    )
    hybrid: HybridOptions | None = Field(None, description="Use the Hybrid-NCE loss, which weights negatives.")
    sampler: Literal["random", "no_duplicates"] = Field(
        "random", description="no_duplicates: a row's documents are not in, or relevant to, another row of the batch."
    )

    @model_validator(mode="after")
    def _queue_of_a_twin(self) -> Self:
        if self.queue_momentum is not None and not self.queue:
            raise ValueError("queue_momentum needs a queue: set queue, or leave it out")
        return self

    @model_validator(mode="after")
    def _one_loss(self) -> Self:
        changed = {name for name, value in self.loss if value != getattr(LossOptions(), name)}
        unusable = [f"loss.{option}" for option in sorted(changed - SHARED)]
        if self.hybrid is not None and unusable:
            raise ValueError(f"hybrid is a loss of its own, without {', '.join(unusable)}")
        return self


class Contrastive(RetrievalTraining[Options]):
    """Trains a dense encoder contrastively."""

    name: ClassVar[str] = "contrastive"

    def loss(self, model: Any) -> RetrievalLoss:
        """The family's loss or Hybrid-NCE, with the configured further negatives."""
        mixing, queue, seed = self.options.mixing, self.options.queue, self.options.seed
        base = self._base(model)
        if mixing is None and not queue:
            return base
        mixes = Mixing(**mixing.model_dump(), seed=seed) if mixing else None
        return with_extra_negatives(base, mixing=mixes, queue=queue, momentum=self.options.queue_momentum)

    def _base(self, model: Any) -> RetrievalLoss:
        options, hybrid = self.options.loss, self.options.hybrid
        relevance = self.data.relevance(margin=options.margin)
        if hybrid is not None:
            settings = {"symmetric": options.symmetric, **hybrid.model_dump(exclude={"groups"})}
            groups = None if hybrid.groups is None else self._groups(hybrid.groups)
            return HybridNCELoss(model, groups=groups, tau=options.tau, relevance=relevance, **settings)
        return ContrastiveLoss(model, relevance=relevance, **options.model_dump(exclude={"margin"}))

    def _groups(self, key: str) -> Groups:
        """The values of a key of the documents' metadata, as groups.

        Raises:
            ConfigError: no document has the key, or there are too many values.
        """
        numbers, sets = self.data.document_numbers, dict[int, list[int]]()
        known: dict[object, int] = {}
        for document in documents_of(self.options.data):
            values = _listed(document.metadata.get(key))
            if document.id in numbers and values:
                sets[numbers[document.id]] = [known.setdefault(value, len(known)) for value in values]
        where = "hybrid.groups"
        if not sets:
            what, do = "no document has groups", "name a key of the documents' metadata"
            raise ConfigError(what, where=where, got=repr(key), expected="a value or a list of values", do=do)
        if (cells := len(numbers) * len(known)) > MOST_CELLS:
            got = f"{len(known):,} values of {key!r} in {len(numbers):,} documents"
            do, expected = (
                "name a key with fewer values",
                f"documents times values at most {MOST_CELLS:,}, not {cells:,}",
            )
            raise ConfigError("too many groups", where=where, got=got, expected=expected, do=do)
        self.remarks.append(f"{len(sets):,} of {len(numbers):,} documents have one or more of {len(known):,} {key}")
        return Groups(sets)

    def sampler(self, rows: Any) -> Any | None:
        """Batches without duplicates, if configured."""
        if self.options.sampler == "random":
            return None
        return NoDuplicates(rows["label"][:], self.data.relevant_numbers())


def _listed(value: object) -> list[object]:
    """The values of a key: those of a list, or the one; none where it is empty."""
    values = value if isinstance(value, list | tuple) else [value]
    return [own for own in values if isinstance(own, str | int | float) and own != ""]
