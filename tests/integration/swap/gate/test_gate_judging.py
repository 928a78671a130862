"""From a gate that is undecided by way of `diptych judge` to one that decides."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from diptych import Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.evaluate import Qrels
from diptych.testing import FakeDenseEncoder

CONFIG = """\
store: edge:./store
collection: c
slots:
  dense: {{adapter: fake-dense, dimension: 64, seed: {seed}}}
swap:
  gate: {{margin: 0.2, seconds: 600}}
{evaluate}
"""
JUDGED = "evaluate: {queries: judgements/queries.jsonl, qrels: judgements/qrels/test.tsv}"


def test_the_command_that_the_gate_advises_pools_the_new_pipelines_hits_and_lets_it_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fakes: Registry
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0, typed: str = "", seed: int = 1, evaluate: str = "") -> Any:
        Path("diptych.yaml").write_text(CONFIG.format(seed=seed, evaluate=evaluate))
        result = CliRunner().invoke(app, words, obj=Session(fakes), input=typed)
        assert result.exit_code == code, result.output
        return result

    texts = [f"word{n % 17} word{n % 23} number{n}" for n in range(60)]
    documents = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts)]
    Path("corpus.jsonl").write_text("\n".join(documents))
    queries = [json.dumps({"_id": f"q{n}", "text": text}) for n, text in enumerate(texts)]
    Path("QUERIES.jsonl").write_text("\n".join(queries))
    run("populate", "corpus.jsonl", seed=0)
    refused = run("apply", "--json", code=7)
    command = re.search(r"diptych (judge .* --all)", json.loads(refused.stderr)["error"]["do"])
    assert command is not None
    words = [*command[1].split(), "--judge", "anna", "--metric", "nDCG@3"]
    verdict = json.loads(run(*words, "--json", typed="3" * 1000).stdout)["verdict"]
    assert [found["name"] for found in verdict["differences"]] == ["after the swap"]
    assert verdict["judged"] == 50
    pools = Qrels.read("judgements/qrels/test.tsv").judgements
    for encoder in (FakeDenseEncoder(dimension=64, seed=seed) for seed in (0, 1)):
        scores = encoder.encode_query(texts) @ encoder.encode_document(texts).T
        for query, judged in pools.items():
            assert {str(n) for n in np.argsort(-scores[int(query[1:])])[:3]} <= judged.keys()
    assert "gate: passed: nDCG@10 " in run("apply", evaluate=JUDGED).stdout
