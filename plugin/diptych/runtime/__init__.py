"""Helpers for the process as a whole, used before and around all other work.

Begin with `phases`. It and `interrupts` make Ctrl-C quick and informative, `panics` turns native failures into errors,
`environment` reads `${NAME}`, `untrusted` what others wrote, `lazy_imports` imports qdrant-client fast, and
`vendor_telemetry` switches off usage reports.
"""
