"""Commands that are refused: the exit code and the error of each stand once, in refusals.json beside this file.

`DIPTYCH_SNAPSHOTS=write` writes the file anew; its diff is what a change does to what users read.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli_values import ANIMALS, CONFIG, HeavyPlugin
from diptych import Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin

SNAPSHOT = Path(__file__).with_name("refusals.json")
COMMANDS = r"""
search night --filter '{'
search night --filter '[]'
search night --filter '{"musst": []}'
search night --filter '{"must": 5}'
search night --where kind
search night --only lexcal
search night --limit 0
search night --limit 9999
search night --collection animal
search night --store edge:./nothere --collection animals
search night --group-by kind --offset 1
search night --hnsw-ef 0
search night --id owl
search night --explain --group-by kind
search night --explain --id unicorn
search night --like nobody
search night --explain --blocks dense
search night --explain --blocks dense=a
search night --explain --blocks =1
search night --explain --blocks dense=a:40,24
search night --explain --blocks dense=a:40,a:24
search night --explain --blocks 'dense=40;24'
search night --image missing.jpg
search night --media sound
search ' '
search -
--log-level loud search night
populate nowhere.jsonl
populate animals.jsonl --id-column key
populate animals.jsonl --title-column texte
populate animals.jsonl --types n=integer
populate animals.jsonl --types integer
populate animals.jsonl --format xml
populate animals.jsonl --engine spark
populate animals.jsonl --config other.yaml
populate books.csv --id-column ky --config other.yaml
populate
populate wrong.jsonl --sync
delete
delete cat --where legs=2
delete cat
delete --filter '{}'
export animals.jsonl
export - --json
import nowhere.jsonl
copy edge:./qdrant memory:
copy edge:./qdrant edge:./other --from-api-key s3cret
info --all --collection animals
status --store edge:./qdrant
status --store 'edge:./my store'
plan --re-encode dens
rollback
apply --queries nowhere.jsonl --qrels nowhere.tsv
apply --queries queries.jsonl
evaluate
evaluate --queries queries.jsonl --qrels qrels.tsv --only densse
evaluate --queries queries.jsonl --qrels qrels.tsv --baseline lexcal
evaluate --queries queries.jsonl --qrels qrels.tsv --metrics nDGC@10
evaluate --queries queries.jsonl --qrels qrels.tsv --fusion rff
evaluate --queries queries.jsonl --qrels qrels.tsv --runs qrels.tsv
evaluate --queries queries.jsonl --qrels qrels.tsv --runs qrels.tsv/deeper
evaluate --queries queries.jsonl --qrels nowhere.tsv
judge new --queries queries.jsonl --only denze
judge animals.jsonl --queries queries.jsonl
judge
tune index --slot lexical
tune index --slot nothing
tune index
tune search --write
tune search --budget soon
tune search --price cohere
tune encoder --budget ms=x
tune encoder --budget watts=3
tune encoder --budget ms=0
tune encoder --budget bytes=nan
tune encoder --budget soon
tune encoder --with nowhere
adapters fake-denze
adapters --kind desne
adapters --new 'My Encoder'
adapters --new x --kind text_index
adapters --new x --folder .
adapters --check nope
adapters --check fake-dense --option dimension
adapters --check heavy
adapters bm25 --check bm25
adapters --option a=1
init
init -c new.yaml --dense fake-denze --lexical none
init -c new.yaml --dense none --lexical none
init -c new.yaml --dense nope:foo --lexical none
init -c new.yaml --dense fake-reranker --lexical none
init -c new.yaml --dense fake-dense:model --lexical none
init -c new.yaml --dense fake-dense --lexical none --collection ''
init -c no/such/folder/new.yaml --dense fake-dense --lexical none
init -c new.yaml --provider coher
init -c new.yaml --provider cohere --dense fake-dense
demo .
train
train nowhere.yaml
serach
adapters bm25 postfix
tune search data more
"""


@pytest.fixture(scope="module")
def invoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Run a command line in a folder with a filled collection; what it answers, without the folder's path."""
    folder, session = tmp_path_factory.mktemp("filled"), Session(Registry(fakes_plugin, HeavyPlugin, installed=False))

    def run(line: str) -> Any:
        words = shlex.split(line)
        given = words if line.startswith(("--", "serach")) else [*words, "--json"]
        result = CliRunner().invoke(app, given, obj=session, env={"COLUMNS": "160"}, prog_name="diptych")
        assert "Traceback" not in result.output
        if result.exit_code == 2:
            lines = [text.strip(" │") for text in result.stderr.splitlines() if text.startswith("│")]
            return {"code": 2, "usage": lines}
        error = json.loads(result.stderr.replace(str(folder), "."))["error"] if result.stderr else result.stdout
        return {"code": result.exit_code, "error": error}

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "diptych.yaml").write_text(CONFIG)
        lines = [json.dumps({"id": key, "text": text, "legs": 4}) for key, text in ANIMALS.items()]
        (folder / "animals.jsonl").write_text("\n".join(lines))
        (folder / "wrong.jsonl").write_text('{"id": "new", "text": "other"}\n')
        (folder / "books.csv").write_text("key,text\n1,words\n")
        (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "cat"}\n{"_id": "q2", "text": "owl"}\n')
        (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tcat\t1\nq2\towl\t1\n")
        assert run("populate animals.jsonl")["code"] == 0
        yield run


def test_each_refused_command_answers_as_its_snapshot_says(invoke: Callable[[str], Any]) -> None:
    found = {line: invoke(line) for line in COMMANDS.strip().splitlines()}
    assert [line for line, answer in found.items() if answer["code"] == 0] == []
    if os.environ.get("DIPTYCH_SNAPSHOTS") == "write":
        SNAPSHOT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    known = json.loads(SNAPSHOT.read_text("utf-8"))
    assert {line: answer for line, answer in found.items() if known.get(line) != answer} == {}
    assert found.keys() == known.keys()
    assert invoke("info")["error"].count('"documents": 4') == 1, "what is refused changes nothing"
