"""Commands for setting up a project: `init`, `demo`, `doctor`, `adapters` and `adapter`.

Begin with `init`, which writes a config from `template`. `doctor` has its checks, `adapter` the files of a new adapter
package.
"""
