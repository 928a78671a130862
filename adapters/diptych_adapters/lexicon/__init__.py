"""Words and their weights: what the lexical adapters share.

`analysis` splits text into words, `terms` gives words their ids, `options` checks options.
"""
