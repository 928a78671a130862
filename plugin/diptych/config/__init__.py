"""The config file `diptych.yaml`: its models, loading, checks and JSON Schema.

Begin with `models`, then `load`. `pipeline`, `storage` and `placement` hold sections of the file; `read_yaml` and
`locations` keep line numbers so that `problems` can name the line in errors. `adapters` checks options against the
installed adapters without importing a model.
"""

from diptych.config.adapters import check_adapters
from diptych.config.load import load_config, parse_config
from diptych.config.locations import Source
from diptych.config.models import Config, SearchConfig, SearchParams, SlotConfig, Stored, VectorStorage
from diptych.config.schema import json_schema

__all__ = [
    "Config",
    "SearchConfig",
    "SearchParams",
    "SlotConfig",
    "Source",
    "Stored",
    "VectorStorage",
    "check_adapters",
    "json_schema",
    "load_config",
    "parse_config",
]
