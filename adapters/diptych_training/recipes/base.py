"""The base of recipes: the run from prepared data to a folder that a config can name."""

from __future__ import annotations

import io
import os
import time
from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from ruamel.yaml import YAML
from transformers import set_seed

from diptych.errors import ConfigError
from diptych.protocols import Kind
from diptych.training import Registration, TrainReport, Watcher, unread_warning
from diptych_adapters.engines.batches import DocumentTokens
from diptych_adapters.pipelines.library import quiet
from diptych_training.corpus import TrainingData, file_name, held_out
from diptych_training.data.generators import Generator
from diptych_training.data.synthetic import synthesize
from diptych_training.losses import CachedLoss
from diptych_training.losses.base import RetrievalLoss
from diptych_training.options import RecipeOptions, RetrievalOptions, SyntheticQueries
from diptych_training.recipes.negatives import documents_of, mined
from diptych_training.rows import Lists, left_out, training_rows
from diptych_training.running import Family, Fitted, RunFolder, family, fit
from diptych_training.running.run import HeldOutEvaluator, search_evaluator

Rows = Sequence[Mapping[str, Any]]

PACKAGES = ("diptych", "sentence-transformers", "transformers", "torch")

EXAMPLES, WIDTH = 3, 100

O = TypeVar("O", bound=RecipeOptions)  # noqa: E741
R = TypeVar("R", bound=RetrievalOptions)
NEGATIVES, SYNTHETIC = "negatives", "synthetic"


class Training(ABC, Generic[O]):
    """A recipe: `prepare`, then `train`. A subclass must at least implement `rows` and `loss`, or `fit`.

    Args:
        options: of the recipe.
        watcher: receives the reports.

    Raises:
        ConfigError: the output folder holds another training.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind] = "dense"

    def __init__(self, options: O, watcher: Watcher) -> None:
        self.options, self.watcher = options, watcher
        self.family: Family = family(self.kind)
        self.folder = RunFolder(self.name, options)
        self.remarks, self.measured_parts = list[str](), dict[str, dict[str, float]]()

    def prepare(self) -> list[str]:
        """Run the data steps, each once; returns a sentence on each, after remarks on the judgements."""
        with quiet():
            if not self.folder.has_data():
                self.check_model()
            return [*self.left_out(), *self.data_steps()]

    def check_model(self) -> None:
        """Raise ConfigError for options that the model cannot take, before data steps encode anything with it."""

    def judged(self) -> Iterable[TrainingData]:
        """The judged data for training and held out; empty without judgements."""
        return ()

    def left_out(self) -> list[str]:
        """Remarks on the judgements, a sentence each; a finished run has reported them."""
        parts = () if self.folder.report() else self.judged()
        return list(dict.fromkeys(remark for part in parts for remark in part.remarks))

    def data_steps(self) -> list[str]:
        """Make and store what is not stored yet; returns a sentence on each step."""
        return []

    def prepared_examples(self) -> list[str]:
        """Where the prepared data is, and some of it; a line each."""
        data = self.folder.path / "data"
        names = sorted(path.name for path in data.glob("*.jsonl"))
        return [f"what was prepared lies in {data}: {', '.join(names)}"] if names else []

    def train(self) -> TrainReport:
        """The whole run, without repeating finished steps."""
        if (done := self.folder.report()) is not None:
            self.watcher.say(f"{self.folder.path} is trained; delete it, or name another output, to train anew")
            return done
        started = time.monotonic()
        self.prepare()
        with quiet():
            set_seed(self.options.seed)
            model = self.model()
            self.warn_unread(model)
            fitted = self.fit(model)
            models = self.export(model)
        report = replace(self._report(fitted, models), seconds=time.monotonic() - started)
        write_card(report, self.options)
        return self.folder.finish(report)

    def model(self) -> Any:
        """The model before it is trained."""
        return self.family.load(self.options.model, self.options.training, prompts=self.options.prompts)

    def fit(self, model: Any) -> Fitted:
        """Train the model in place: `loss` over `rows`."""
        return self.fitted(model, self.rows(), self.loss(model))

    def rows(self) -> Any:
        """The data set, a `datasets.Dataset`."""
        raise NotImplementedError

    def loss(self, model: Any) -> Any:
        """The loss over the rows."""
        raise NotImplementedError

    def new(self, model: Any) -> list[Any]:
        """The parameters that this recipe added to the loaded model, with random values."""
        return []

    def warn_unread(self, model: Any) -> None:
        """Say it if the model leaves too much of the training's documents unread."""

    def evaluator(self) -> HeldOutEvaluator | None:
        """The evaluator during training; None for none."""
        return None

    def fitted(self, model: Any, rows: Any, loss: Any, **changes: Any) -> Fitted:
        """`running.fit` with this recipe's folder, seed, evaluator and options; `changes` are its further arguments.

        Raises:
            ConfigError: `training.mini_batch_size` with a loss that cannot be taken in pieces.
        """
        size = self.options.training.mini_batch_size
        if size is not None and self.kind != "reranker":  # rerankers' losses read pairs in pieces already
            if not isinstance(loss, RetrievalLoss):
                where, got = "training.mini_batch_size", f"recipe {self.name}, whose loss sees a batch as a whole"
                do = "leave it out, and make training.batch_size smaller"
                raise ConfigError("the loss cannot be taken in pieces", where=where, got=got, do=do)
            loss = CachedLoss(loss, mini_batch_size=size)
        return fit(
            model,
            rows,
            loss,
            family=self.family,
            options=self.options.training,
            folder=self.folder,
            watcher=self.watcher,
            seed=self.options.seed,
            evaluator=self.evaluator(),
            new=self.new(model),
            **changes,
        )

    def export(self, model: Any) -> list[Registration]:
        """Save the trained model; returns how it is used, the main one first."""
        model.save_pretrained(str(self.folder.path), create_model_card=False)
        return [Registration(self.family.adapter, {"model": str(self.folder.path)})]

    def _report(self, fitted: Fitted, models: list[Registration]) -> TrainReport:
        measured = {"before": fitted.before, "after": fitted.after, **self.measured_parts} if fitted.after else {}
        return TrainReport(
            self.name,
            self.kind,
            str(self.folder.path),
            tuple(models),
            measured=measured,
            steps=fitted.steps,
            resumed_at=fitted.resumed_at,
            remarks=(*self.left_out(), *self.remarks, *fitted.remarks),
            chosen_by=fitted.chosen_by,
        )


class RetrievalTraining(Training[R], Generic[R]):
    """A recipe that learns from judged queries and mined negatives; a subclass chooses at least the loss."""

    def judged(self) -> Iterable[TrainingData]:
        """The data for training and held out, without written queries."""
        return self._judged

    def data_steps(self) -> list[str]:
        """Have synthetic queries written and negatives mined, as configured."""
        done = self._write_queries()
        if self.options.negatives.per_query == 0 or self.folder.stored(NEGATIVES) is not None:
            return done
        self.watcher.begin("mining negatives", None)
        lists, sentence = mined(self.options, self.data, self.model)
        self.store_lists(NEGATIVES, lists)
        return [*done, sentence]

    def prepared_examples(self) -> list[str]:
        """Where the data is, and some queries with a relevant document and their hardest negative."""
        lines, data = super().prepared_examples(), self.data
        for query, documents in self.negatives().items():
            relevant = data.relevant(query)
            negative = next((name for name in documents if name not in data.qrels.get(query, {})), None)
            if relevant and negative is not None and len(lines) < 1 + 3 * EXAMPLES:
                lines += [
                    _line("query", query, data.queries[query]),
                    _line("  relevant", relevant[0], data.answer(query, relevant[0])),
                    _line("  negative", negative, data.documents[negative]),
                ]
        return lines

    def warn_unread(self, model: Any) -> None:
        """Say it if the model leaves too much of the documents unread; rerankers, which read pairs, are left out."""
        if self.kind in ("dense", "sparse"):
            warn_unread(model, list(self.data.documents.values()), self.watcher)

    def rows(self) -> Any:
        """The data set: a row for each judged pair, with negatives and ids."""
        options = self.options.negatives
        lists = self.negatives() if options.per_query else None
        rows = training_rows(self.data, lists, per_query=options.per_query, seed=self.options.seed)
        why = "their query judges all documents, and none was mined"
        self.remarks += filter(None, [left_out(self.data, zip(rows["query"], rows["positive"], strict=True), why)])
        return rows

    def evaluator(self) -> HeldOutEvaluator | None:
        """The evaluator on the held-out queries."""
        dev = self.options.data.dev
        return search_evaluator(self.held, self.kind, documents=dev.documents, seed=self.options.seed)

    def negatives(self) -> Lists:
        """The mined negatives, by query."""
        return self.lists(NEGATIVES)

    def store_lists(self, name: str, lists: Lists) -> None:
        """Store documents by query."""
        self.folder.store(name, ({"query": query, "documents": list(names)} for query, names in lists.items()))

    def lists(self, name: str) -> dict[str, list[str]]:
        """Stored documents by query, without those that no longer exist; a remark lists them."""
        rows = self.folder.stored(name) or ()
        missing = {document for row in rows for document in row["documents"]} - self.data.documents.keys()
        remark = f"{len(missing):,} documents of data/{name}.jsonl are no longer there, and were left out"
        if missing and remark not in self.remarks:
            self.remarks.append(remark)
        return {row["query"]: [document for document in row["documents"] if document not in missing] for row in rows}

    @property
    def data(self) -> TrainingData:
        """The data to train on."""
        return self._split[0]

    @property
    def held(self) -> TrainingData:
        """The held-out data."""
        return self._split[1]

    def _write_queries(self) -> list[str]:
        """Have queries written for the training documents that give away no held-out query; returns what was done.

        Raises:
            RegistryError, ContractError, RemoteError, ConfigError: the generator cannot write.
        """
        synthetic = self.options.data.synthetic
        if synthetic is None or self.folder.stored(SYNTHETIC) is not None:
            return []
        self.watcher.begin("writing queries", None)
        data, held = self._judged
        documents = [data.document(name) for name, text in data.documents.items() if text]
        generator, tests = Generator(synthetic.generator, synthetic.options), [held.queries[q] for q in held.qrels]
        result = synthesize(documents, generator, synthetic, seed=self.options.seed, test_queries=tests)
        self.folder.store(SYNTHETIC, map(asdict, result.queries))
        return [str(result.report)]

    @cached_property
    def _judged(self) -> tuple[TrainingData, TrainingData]:
        options = self.options.data
        data = TrainingData.read(options, documents_of(options))
        return held_out(data, options, self.options.seed)

    @cached_property
    def _split(self) -> tuple[TrainingData, TrainingData]:
        synthetic = self.options.data.synthetic
        if synthetic is None:
            return self._judged
        self._write_queries()
        rows = self.folder.stored(SYNTHETIC) or []
        return with_synthetic(synthetic, *self._judged, rows, self.options.data.dev.share, self.options.seed)


def _line(label: str, name: str, text: str) -> str:
    line = " ".join(text.split())
    return f"{label} {name}: {line if len(line) <= WIDTH else line[: WIDTH - 4] + ' ...'}"


def warn_unread(model: Any, documents: Sequence[str], watcher: Watcher) -> None:
    """Say it if more than a tenth of the tokens of a sample is unread.

    Args:
        model: of sentence-transformers; nothing is said of one that does not cut texts, or has no fast tokenizer.
        documents: of the training.
        watcher: is told.
    """
    tokenizer = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    limit = getattr(model, "max_seq_length", None)
    if tokenizer is None or not isinstance(limit, int):
        return
    prompts = getattr(model, "prompts", None) or {}
    tokens = DocumentTokens(tokenizer.to_str(), prompts.get("document") or "")
    reader: Any = SimpleNamespace(token_spans=tokens.spans, max_tokens=tokens.room(limit))
    if sentence := unread_warning(reader, documents):
        watcher.say(sentence)


def write_card(report: TrainReport, options: RecipeOptions) -> None:
    """Write `README.md` into the folder of the run."""
    configs = []
    for model in report.models:
        inner = ", ".join(f"{key}: {_short(str(value))}" for key, value in model.section.items())
        configs.append(f"    {model.name or 'model'}: {{adapter: {model.adapter}, {inner}}}")
    # Paths by their last two parts: a card is shared, the paths of a machine are not.
    given = options.model_dump(exclude={"output"}, exclude_defaults=True) | {"model": _short(options.model)}
    facts = {"library_name": "sentence-transformers", "base_model": _short(options.model)}
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    measured = ["Nothing was held out."]
    if any(report.measured.values()):
        columns = report.measured.values()
        metrics = next(iter(columns))
        rows = (f"| {metric} | {' | '.join(f'{own[metric]:.4f}' for own in columns)} |" for metric in metrics)
        heads = f"| metric | {' | '.join(report.measured)} |"
        measured = ["On what was held out:\n", heads, f"|---|{'---|' * len(columns)}", *rows]
    lines = [
        "---",
        _yaml({**facts, "tags": ["diptych", report.kind, report.recipe]}),
        "---\n",
        f"# {Path(report.folder).name}\n",
        f"A {report.kind} model, trained from `{_short(options.model)}` by diptych's recipe `{report.recipe}`.\n",
        "## Use\n",
        "In a diptych.yaml:\n",
        *configs,
        "\n## Measured\n",
        *measured,
        "\n## Training\n",
        f"{report.steps:,} steps, seed {options.seed}. {versions}.\n",
        "```yaml",
        _yaml({"recipe": report.recipe, **_shortened(given)}),
        "```",
        *(f"\n{remark}" for remark in report.remarks),
    ]
    (Path(report.folder) / "README.md").write_text("\n".join(lines) + "\n", "utf-8")


def _shortened(value: Any) -> Any:
    if isinstance(value, Path):
        return file_name(value)
    if isinstance(value, str):  # a text such as a prompt may begin with a slash, too
        return file_name(Path(value)) if value.startswith(os.sep) and os.path.exists(value) else value
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list | tuple) else value


def _short(model: str) -> str:
    return Path(model).name if Path(model).is_absolute() else model


def _yaml(value: Any) -> str:
    stream, yaml = io.StringIO(), YAML()
    yaml.default_flow_style = False
    yaml.dump(value, stream)
    return stream.getvalue().rstrip()


def with_synthetic(
    synthetic: SyntheticQueries, data: TrainingData, held: TrainingData, rows: Rows, share: float, seed: int
) -> tuple[TrainingData, TrainingData]:
    """The training data with synthetic queries, and the held-out data.

    Without judged queries, the synthetic ones of a share of the documents are held out: another query of a trained
    document would not be new.

    Args:
        synthetic: whether queries are cut out of their documents.
        data, held: of judged queries.
        rows: `{"id", "text", "document"}` as they were stored; missing documents are left out.
        share, seed: of the documents whose synthetic queries are held out.

    Raises:
        ConfigError: there is no query at all.
    """
    texts = {row["id"]: row["text"] for row in rows}
    qrels = {row["id"]: {row["document"]: 1.0} for row in rows if data.documents.get(row["document"])}
    queries = {**held.queries, **data.queries, **texts}
    cut = frozenset(texts) if synthetic.cut else frozenset[str]()
    combined = TrainingData(queries, data.documents, {**data.qrels, **qrels}, data.titles, cut)
    if not combined.qrels:
        raise ConfigError(
            "no synthetic query is left, and none is judged",
            where="data.synthetic",
            do="give another generator, or more documents",
        )
    if data.qrels or held.qrels:
        return combined, held
    # Training and held-out data: all queries of a share of the documents, drawn by `seed`, are held out.
    documents = sorted({name for judged in combined.qrels.values() for name in judged})
    count = max(1, round(share * len(documents))) if share else 0
    chosen = set(np.random.default_rng(seed).permutation(documents)[:count].tolist())
    held_queries = {query for query, judged in combined.qrels.items() if not chosen.isdisjoint(judged)}
    return combined.only(query for query in combined.qrels if query not in held_queries), combined.only(held_queries)
