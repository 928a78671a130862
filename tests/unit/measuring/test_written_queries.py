"""What the script on written queries stands on: tokens of texts that are no world's, and judged queries."""

from __future__ import annotations

import numpy as np
import torch

from effects import deb
from effects.synthetic_text import Learning, real, tokens_of


def tiny_world() -> deb.Real:
    queries, documents = ["manage fonts", "play sound"], ["a manager of fonts", "plays any sound", "nothing of these"]
    tokens, pieces, words = deb.tokenised((queries, 6), (documents, 8))
    relevant, every, none = np.eye(2, 3, dtype=np.bool_), np.arange(2), torch.empty(0, 1)
    sides = (relevant, every, every, tokens[0], tokens[1])
    return deb.Real(queries, documents, *sides, words, ["m", "p", "n"], pieces, (none, none))


def test_texts_of_a_world_have_its_tokens_and_other_words_are_left_out() -> None:
    world = tiny_world()
    assert torch.equal(tokens_of(world, world.documents, world.document_tokens), world.document_tokens)
    own = tokens_of(world, ["play umbrella"], world.query_tokens)[0]
    known = [world.words[place] for place in own.tolist() if place]
    assert known == ["[CLS]", "play", "[SEP]"]
    assert tokens_of(world, [], world.query_tokens).shape == (0, world.query_tokens.shape[1])


def test_fewer_judged_queries_are_a_part_of_more() -> None:
    world = tiny_world()
    assert len(real(world, 0, Learning().real)) == 0
    one, both = (set(map(tuple, real(world, 0, count).tolist())) for count in (1, 2))
    assert len(one) == 1
    assert one < both
