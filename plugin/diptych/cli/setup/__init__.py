"""Commands for setting up a project: `init`, `demo`, `doctor`, `adapters` and `adapter`.

Begin with `init`, which writes a config from `template` and `provider_presets`. `doctor` has its checks.
`adapter` creates an adapter package from `adapter_files`.
"""
