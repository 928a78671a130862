"""The parts of `diptych.registry.Registry`.

`catalogue` collects the adapters and recipes that plugins register, `factory` makes an adapter from its spec and
checks the result, and `extras` says what to install when a package is missing.
"""
