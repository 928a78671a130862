"""The parts of `diptych.registry.Registry`. Begin with `factory`.

`factory` makes an adapter from its spec and checks the result, and `extras` says what to install when a package is
missing. `token_pooling` and `anchor_scores` hold the wrappers that `factory` puts around an adapter whose options ask
for `reduce` or `anchors`.
"""
