"""Words and their weights: what the lexical adapters share.

Begin with `analysis`, which splits text into words; `terms` gives words their ids, `options` checks options.
"""
