"""Sessions of commands: what each prints, and its exit code, stands once in sessions.json beside this file.

`~ OLD => NEW` edits the config. Times, dates, users, hashes, sizes and long decimals are replaced by `#`.
`DIPTYCH_SNAPSHOTS=write` writes the file anew; its diff is what a change does to what users read.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli_values import ANIMALS, CONFIG, HeavyPlugin
from diptych import Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin

SNAPSHOT = Path(__file__).with_name("sessions.json")
SEED = "~ fake-dense} => fake-dense, seed: 1}"
SESSIONS = {
    "a swap": f"""
        plan
        populate animals.jsonl
        populate animals.jsonl
        info
        status
        plan
        {SEED}
        plan
        plan --exit-code --sample 0
        search mice
        apply --no-cut-over --why smaller
        status
        plan --sample 0
        finish
        rollback
        apply --no-gate
        plan --exit-code
        status
        status --history
        search mice --only dense -n 1
        rollback --why 'users find less'
        search mice --store edge:./qdrant --collection animals -n 1
        rollback
        rollback --json
        rollback
        finish
        finish
        finish --json
        rollback
        apply --re-encode dense --rate 1000 --parallel --pace gentle
    """,
    "an apply with the gate": f"""
        populate animals.jsonl
        {SEED}
        apply
        status --history
        ~ seed: 1}} => seed: 2}}
        apply --queries queries.jsonl --qrels qrels.tsv
        apply
        apply --json
    """,
    "every command in every phase": f"""
        populate animals.jsonl
        {SEED}
        search mice --explain
        evaluate --queries queries.jsonl --qrels qrels.tsv
        populate few.csv
        doctor
        apply --no-cut-over
        search mice --only dense -n 1
        search mice --explain -n 1
        evaluate --queries queries.jsonl --qrels qrels.tsv --only dbsf
        doctor
        ~ seed: 1}} => seed: 2}}
        plan --sample 0
        apply
        search mice -n 1
        ~ seed: 2}} => seed: 1}}
        apply --no-gate
        ~ fake-dense, seed: 1}} => fake-dense}}
        search mice
        populate few.csv
        evaluate --queries queries.jsonl --qrels qrels.tsv
        plan --sample 0
        apply --json
        search mice -n 1
        rollback
        search mice
        doctor
    """,
    "a worse encoder": """
        populate animals.jsonl
        ~ fake-dense} => fake-dense, dimension: 2}
        ~   lexical: {adapter: fake-sparse}| =>
        ~ limit: 3 => limit: 3|swap: {gate: {metric: nDCG@1}}
        apply --queries queries.jsonl --qrels qrels.tsv
        status
        apply --json --queries queries.jsonl --qrels qrels.tsv
        apply --ignore-gate --queries queries.jsonl --qrels qrels.tsv
        status
    """,
    "added slots": f"""
        populate animals.jsonl
        ~ lexical: {{adapter: fake-sparse}} => lexical: {{adapter: fake-sparse}}|  words: {{adapter: fake-sparse}}
        plan --sample 0
        apply --no-gate
        status
        rollback
        status
        rollback
        finish
        status --json
        {SEED}
        ~ lexical: {{adapter: fake-sparse}} => lexical: {{adapter: fake-sparse, dimension: 512}}
        apply --no-gate
        status
        ~ seed: 1}} => seed: 2}}
        plan --sample 0
    """,
    "search settings": """
        populate animals.jsonl
        ~ limit: 3 => limit: 2
        plan --sample 0
        apply
        ~ limit: 2 => limit: 2|  score_threshold: 1000
        plan --sample 0
        apply
        status
        apply --no-cut-over --unmeasured
        apply --ignore-gate
        plan --exit-code
        search mouse
    """,
    "searches": """
        populate animals.jsonl
        search 'who hunts mice at night' 'an egg'
        search owl --limit 1 --json
        search 'the night' -n 4
        search 'the night' -n 2 --offset 2
        search night --where legs=2
        search night --where legs=9
        search night --where legz=2
        search night --where kind=bird --json
        search night --filter '{"must": [{"key": "kind", "match": {"value": "bird"}}]}'
        search 'owl at night' --only lexical --json
        search egg --exact --hnsw-ef 200 -n 1
        search night --pin hen --exclude owl --json
        search night --like owl --unlike 'text:an egg'
        search mouse --threshold 99
        search night --group-by kind --group-size 1
        search night --group-by kind --json
        search night --group-by kinds
        search 'owl hunts at night' --explain
        search 'owl hunts at night' --explain -n 1 --json
        search 'owl hunts' --explain --id hen --only lexical
        search owl egg --explain -n 1 --blocks dense=left:40,right:24
        search 'owl at night' --explain -n 1 --like hen --pin owl
        search night --highlight -n 1
    """,
    "documents": """
        info --store memory:
        populate animals.jsonl bad.jsonl --report rejected.jsonl
        populate animals.jsonl bad.jsonl --dry-run --sync
        populate few.csv --types legs=text --json
        populate few.csv --sync --yes
        populate empty
        populate empty --json
        info --all
        info --all --json
        info --json
        info --collection plants
        export --id fox
        export --id fox --id unicorn
        export out.jsonl --where legs=4
        export out.jsonl --where legs=4 --force --json
        export all.jsonl.gz --vectors
        delete fox unicorn --yes
        delete --where legz=2 --yes
        import out.jsonl --json
        import all.jsonl.gz --collection again
        import all.jsonl.gz
        import all.jsonl.gz --store edge:./elsewhere --json
        copy edge:./qdrant edge:./qdrant --collection animals --as copied
        copy edge:./qdrant edge:./qdrant --collection animals --as copied --no-verify
        delete --where legs=4 --yes --json
    """,
    "tenants": """
        ~ limit: 3 => limit: 3|tenant: {field: kind}
        populate animals.jsonl
        search night
        search night --tenant bird
        search night --tenant birdd
        search night --tenant birdd --explain
        search night --tenant bird --where kind=mammal
        search night --group-by legs --tenant mammal --json
        populate few.csv --sync
        populate few.csv --sync --tenant bird --yes --json
        export --id hen --tenant bird
    """,
    "evaluations": """
        populate animals.jsonl
        evaluate --queries queries.jsonl --qrels qrels.tsv
        evaluate --queries queries.jsonl --qrels qrels.tsv --only lexical --only dbsf --baseline dbsf -m P@1,P@1
        evaluate --queries queries.jsonl --qrels qrels.tsv --exact --calibration --fusion rrf,linear
        evaluate --queries queries.jsonl --qrels qrels.tsv --slices length,lenght
        evaluate --queries queries.jsonl --qrels qrels.tsv --only dense --json --per-query --runs runs
        evaluate --queries queries.jsonl --qrels one.tsv
        evaluate --queries queries.jsonl --qrels one.tsv --baseline dense
        judge --queries queries.jsonl --judge anna
    """,
    "what is there": """
        adapters
        adapters --kind reranker --json
        adapters heavy
        adapters fake-dense
        adapters --check fake-sparse
        doctor --no-models
        populate animals.jsonl
        doctor --no-models
        doctor --no-models --verify --json
        cache
        cache --json
        ~ fake-sparse} => fake-sparse, expand: {api_key: s3cret, feline: cat}}
        apply --no-gate
        status
        status --json
        info
        init -c new.yaml --dense heavy --lexical fake-sparse --json
        init -c new.yaml --dense fake-dense --lexical none --force --no-schema
    """,
    "unread tokens": """
        ~ fake-dense} => fake-dense, max_tokens: 3}
        populate animals.jsonl
        info
        plan
        ~ max_tokens: 3} => max_tokens: 2}
        apply --no-gate
    """,
}
HIDDEN = [
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::[\d.]+)?(?:Z|\+00:00| UTC)?", "DATE"),
    (r"(?<=by )\S+@[^\s,;()]+", "USER"),
    (r'(?<="by": ")[^"]+|(?<="holder": ")[^"]+', "USER"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b", "HASH"),
    (r"(?:under )?\b\d[\d,.]* (?:ms|s|min)\b", "TIME"),
    (r"\d[\d,.]* (?:bytes|[kMG]B)\b", "SIZE"),
    (r"-?\d+\.\d{3,}(?:e-?\d+)?|\d+e-\d+", "#"),
    (r'(?<="(?:disk|size)": )\d+|(?<="version": )\d+', "#"),
    (r"Python 3[^\"]*", "VERSIONS"),
    (r" +\n", "\n"),
]


def shown(text: str, folder: Path) -> list[str]:
    """The lines of an output without what differs from run to run."""
    text = text.replace(str(folder), ".")
    for pattern, name in HIDDEN:
        text = re.sub(pattern, name, text)
    lines = [re.sub(r"(?<=\S)  +", "  ", line.rstrip()) for line in text.splitlines()]
    return [line for line in lines if not line.endswith(" ...")]


@pytest.mark.parametrize("name", SESSIONS)
def test_each_command_of_a_session_prints_what_its_snapshot_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIPTYCH_CACHE", "off")
    kinds = {"owl": ("bird", 2), "hen": ("bird", 2), "cat": ("mammal", 4), "dog": ("mammal", 4)}
    rows = [{"id": k, "text": text, "kind": kinds[k][0], "legs": kinds[k][1]} for k, text in ANIMALS.items()]
    asked = [{"_id": f"q{n}", "text": text} for n, text in enumerate([*ANIMALS.values()] * 15)]
    judged = [f"q{n}\t{[*ANIMALS][n % 4]}\t1" for n in range(60)]
    head = "query-id\tcorpus-id\tscore\n"
    files = {
        "diptych.yaml": CONFIG,
        "animals.jsonl": "\n".join(map(json.dumps, rows)),
        "bad.jsonl": '{"id": "void", "text": "  "}\n',
        "few.csv": "id,text,kind,legs\nfox,the fox is quick,mammal,4\n",
        "queries.jsonl": "\n".join(map(json.dumps, asked)),
        "qrels.tsv": head + "\n".join(judged),
        "one.tsv": head + judged[0],
    }
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "empty").mkdir()
    session, found = Session(Registry(fakes_plugin, HeavyPlugin, installed=False)), list[dict[str, Any]]()
    for line in filter(None, map(str.strip, SESSIONS[name].splitlines())):
        if line.startswith("~"):
            old, _, new = line.removeprefix("~ ").replace("|", "\n").partition(" =>")
            config = Path("diptych.yaml").read_text()
            assert old in config, line
            Path("diptych.yaml").write_text(config.replace(old, new.removeprefix(" ")))
            continue
        result = CliRunner().invoke(app, shlex.split(line), obj=session, env={"COLUMNS": "160"})
        assert "unexpected error" not in result.stderr, result.stderr
        err = shown(result.stderr, tmp_path)
        found.append(
            {"command": line, "code": result.exit_code, "out": shown(result.stdout, tmp_path)}
            | ({"err": err} if err else {})
        )
    known = json.loads(SNAPSHOT.read_text("utf-8")) if SNAPSHOT.exists() else {}
    if os.environ.get("DIPTYCH_SNAPSHOTS") == "write":
        known |= {name: found}
        SNAPSHOT.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for now, before in zip(found, known[name], strict=True):
        assert now == before
    assert known.keys() <= SESSIONS.keys()
