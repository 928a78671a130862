"""Shared by all commands: output, progress bars, common options, errors and exit codes.

Begin with `session` (the global options of one call) and `run_command` (how errors become text and exit codes).
`output` prints for people, for programs and into pipes.
"""
