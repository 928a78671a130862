"""A local language model as a reranker: is the document relevant, yes or no?"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field

from diptych.errors import ContractError
from diptych.protocols import Fingerprint, Pair
from diptych.types import Floats
from diptych_adapters.model_options import ANSWERS, INSTRUCTION, LEAST_SHARE, Answers, ModelOptions, question, scores_of
from diptych_adapters.models import ModelError, ModelFolder, check_safe, resolve
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.library import check_length, load_transformer

_SPARE = 8  # tokens by which a prompt may grow when its parts are joined: tokenizers may split the seams otherwise
_NEEDED = ("position_ids", "logits_to_keep")


class YesNoOptions(ModelOptions):
    """Options of `yes-no`."""

    instruction: str = Field(INSTRUCTION, min_length=1, description="Task, put before query and document.")
    answers: Answers = Field(ANSWERS, description="Words for relevant and irrelevant.")
    raw_scores: bool = Field(False, description="Return log-odds of the words instead of scores from 0 to 1.")
    template: dict[str, Any] = Field(
        default_factory=dict, description="Arguments for the chat template, such as `{enable_thinking: false}`."
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; null takes cuda if present, else cpu.")
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Number format of the model; null is as stored."
    )
    batch_size: int = Field(8, ge=1, description="Pairs in one forward pass.")
    max_length: int | None = Field(
        None, ge=32, description="Maximum tokens of the prompt; null is the model's own limit, at most 4,096."
    )


class _Answer(NamedTuple):
    log_odds: float
    share: float  # p(yes) + p(no)
    token: int  # the most probable one


class YesNoReranker:
    """Scores a pair by a causal language model's probability of "yes" against "no" as its next token.

    The question goes through the tokenizer's chat template, if it has one. If a pair is too long, the document is cut
    to fit, and the query at half of the room. See `YesNoOptions` for the options.

    Raises:
        ModelError: the folder holds no complete causal model with safetensors, or its tokenizer has no token for an
            answer or the same token for both.
    """

    independent = True

    def __init__(self, options: YesNoOptions) -> None:
        folder = resolve(options.model, revision=options.revision)
        check_safe(folder, trust_remote_code=False, allow_pickle_weights=False)
        _check_architecture(folder)
        self.options, self.name = options, folder.name
        self.model, self.tokenizer = _loaded(folder, options)
        positions = getattr(self.model.config, "max_position_embeddings", None)
        check_length(options.max_length, positions, folder.name)
        self.max_length: int | None = min(options.max_length or 4096, positions or 4096)
        self._answers = [self._tokens_of(word) for word in options.answers]
        self._check_answers()
        self._special = sorted(
            (str(own) for own in self.tokenizer.added_tokens_decoder.values() if own.special), key=len, reverse=True
        )
        self._ends = {self.tokenizer.eos_token_id, self.tokenizer.sep_token_id}
        self._digests = fingerprints.digests(folder.module_folders())
        self._lock = threading.Lock()
        room = self.max_length - len(self._ids(self._prompt("", ""))) - 2 * _SPARE
        if room < 2:
            raise ModelError(
                "the prompt alone fills the model's input",
                where=folder.path,
                got=f"{self.max_length - 2 * _SPARE - room} tokens",
                expected=f"less than {self.max_length - 2 * _SPARE}",
                do="shorten `instruction` or raise `max_length`",
            )
        self._room = room

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        return cls(YesNoOptions(**options))

    @property
    def fingerprint(self) -> Fingerprint:
        """Covers what the scores depend on: weights, tokenizer, length, the whole prompt, answers and the scale."""
        # What prompts are made from, not a prompt itself, since a chat template may write today's date.
        source = getattr(self.tokenizer, "chat_template", None)
        facts = [source, self.tokenizer.special_tokens_map, self.options.template]
        prompt = fingerprints.digest([question(self.options.instruction, "QUERY", "DOCUMENT"), *facts])
        return fingerprints.fingerprint(
            weights=self._digests.weights,
            tokenizer=self._digests.tokenizer,
            pooling=["/".join(self.options.answers), "log-odds" if self.options.raw_scores else "sigmoid"],
            prompts=(prompt, ""),
            max_length=self.max_length,
            dimension=1,
            numerics=f"torch {str(self.model.dtype).removeprefix('torch.')} {self.model.device.type}",
        )

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better: 0 to 1, or with `raw_scores` log-odds.

        Raises:
            ModelError: a prompt is too long, although its texts were cut.
            ContractError: the model answers all pairs with something else than one of the two words.
        """
        with self._lock:
            prompts = [self._prompt_ids(*self._cut(query, document)) for query, document in pairs]
            answers = dict[int, _Answer]()
            order = sorted(range(len(pairs)), key=lambda row: -len(prompts[row]))
            for start in range(0, len(order), self.options.batch_size):
                rows = order[start : start + self.options.batch_size]
                answers.update(zip(rows, self._answers_to([prompts[row] for row in rows]), strict=True))
        self._check_shares(list(answers.values()))
        return scores_of((answers[row].log_odds for row in range(len(pairs))), raw=self.options.raw_scores)

    def _prompt(self, query: str, document: str) -> str:
        content = question(self.options.instruction, query, document)
        if not getattr(self.tokenizer, "chat_template", None):
            return f"{content}\n\nAnswer:"
        rendered: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            **self.options.template,
        )
        return rendered

    def _prompt_ids(self, query: str, document: str) -> list[int]:
        ids, most = self._ids(self._prompt(query, document)), self.max_length or 0
        if len(ids) > most:
            what = "a prompt is longer than the model's input, although query and document were cut"
            got, do = f"{len(ids)} tokens", "raise `max_length`; does the chat template write a message twice?"
            raise ModelError(what, where=self.name, got=got, expected=f"at most {most}", do=do)
        return ids

    def _ids(self, prompt: str) -> list[int]:
        """The tokens of a prompt. Special ones are added only without a chat template, which writes its own."""
        templated = bool(getattr(self.tokenizer, "chat_template", None))
        ids: list[int] = self.tokenizer(prompt, add_special_tokens=not templated, verbose=False)["input_ids"]
        if not templated and ids and ids[-1] in self._ends:
            ids = ids[:-1]  # some tokenizers add an end token, after which no answer follows
        return ids

    def _cut(self, query: str, document: str) -> tuple[str, str]:
        query, document = self._plain(query), self._plain(document)
        query = self._beginning(query, self._room // 2)
        taken = len(self.tokenizer(query, add_special_tokens=False, verbose=False)["input_ids"])
        return query, self._beginning(document, max(1, self._room - taken))

    def _plain(self, text: str) -> str:
        """The text without special tokens, which could begin another turn of the chat."""
        for token in self._special:
            text = text.replace(token, " ")
        return text

    def _beginning(self, text: str, most: int) -> str:
        """The first `most` tokens of the text."""
        # Not by the tokenizer's own truncation, which keeps the last tokens where its `truncation_side` is left.
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans = encoded["offset_mapping"]
        return text if len(spans) <= most else text[: spans[most - 1][1]]

    def _answers_to(self, prompts: Sequence[list[int]]) -> list[_Answer]:
        import torch

        longest, pad = max(map(len, prompts)), self.tokenizer.pad_token_id or 0
        # Padding is on the left, so that every prompt ends at the last position, whose logits give the answer.
        ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
        device = self.model.device
        with torch.inference_mode():
            answer = self.model(
                **{name: value.to(device) for name, value in inputs.items()}, logits_to_keep=1, use_cache=False
            )
            last = answer.logits[:, -1].float()
            yes, no = (torch.logsumexp(last[:, tokens], dim=1) for tokens in self._answers)
            shares = (torch.logaddexp(yes, no) - torch.logsumexp(last, dim=1)).exp()
        columns = (yes - no).tolist(), shares.tolist(), last.argmax(dim=1).tolist()
        return [_Answer(*row) for row in zip(*columns, strict=True)]

    def _check_shares(self, answers: Sequence[_Answer]) -> None:
        """Refuses a model that answers no pair by one of the two words. A single odd document is no reason to fail."""
        if answers and all(answer.share < LEAST_SHARE for answer in answers):
            best = max(answers, key=lambda answer: answer.share)
            words = " or ".join(map(repr, self.options.answers))
            raise ContractError(
                "the model does not answer as the prompt asks",
                where=self.name,
                got=f"{self.tokenizer.decode([best.token])!r}; {words} with a probability of {best.share:.1e}",
                expected=f"at least {LEAST_SHARE}",
                do="use a model that answers with one word; turn thinking off with `template`, or change `instruction`",
            )

    def _tokens_of(self, word: str) -> list[int]:
        """Tokens that are this word as a whole, in any case, with and without a leading space."""
        found = set()
        cases = {word, word.lower(), word.upper(), word.capitalize()}
        for spelling in sorted(cases | {f" {case}" for case in cases}):
            ids = self.tokenizer(spelling, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
                found.add(ids[0])
        if not found:
            do = "set `answers` to two words that are single tokens of this model"
            raise ModelError(f"the tokenizer has no token for the answer {word!r}", where=self.name, do=do)
        return sorted(found)

    def _check_answers(self) -> None:
        if common := set(self._answers[0]) & set(self._answers[1]):
            words, token = " and ".join(map(repr, self.options.answers)), self.tokenizer.decode([min(common)])
            raise ModelError(
                "the tokenizer has the same token for both answers",
                where=self.name,
                got=f"{words}, both {token!r}",
                do="set `answers` to two words that this model's tokenizer tells apart",
            )


def _check_architecture(folder: ModelFolder) -> None:
    architectures = [str(name) for name in folder.config().get("architectures") or []]
    if not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures):
        raise ModelError(
            f"model {folder.name!r} is not a causal language model",
            where=folder.path,
            got=f"architectures {', '.join(architectures) or 'unknown'}",
            expected="one ending in ForCausalLM or LMHeadModel",
            do="use adapter: cross-encoder for a trained reranker, or use another model",
        )


def _loaded(folder: ModelFolder, options: YesNoOptions) -> tuple[Any, Any]:
    """The loaded model and its tokenizer.

    Raises:
        ModelError: weights are missing, superfluous or of another shape; the tokenizer is not a fast one; or the
            model cannot compute the logits of the last token alone.
    """
    model, tokenizer = load_transformer("AutoModelForCausalLM", folder, dtype=options.precision)
    lacks = [name for name in _NEEDED if name not in inspect.signature(model.forward).parameters]
    if lacks:
        what = f"model {folder.name!r} cannot compute the logits of the last token alone"
        raise ModelError(what, where=type(model).__name__, got=f"no {' and no '.join(lacks)}", do="use another model")
    import torch

    return model.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu")), tokenizer
