"""The parts of `diptych.registry.Registry`. Begin with `factory`.

`factory` makes an adapter from its spec and checks the result. `token_pooling` holds the wrapper that `factory` puts
around an adapter whose options ask for `reduce`.
"""
