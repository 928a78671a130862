"""The parts of `diptych.registry.Registry`. Begin with `factory`.

`factory` makes an adapter from its spec and checks the result, and `extras` says what to install when a package is
missing. `token_pooling` holds the wrapper that `factory` puts around an adapter whose options ask
for `reduce`.
"""
