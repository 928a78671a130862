"""The config file `diptych.yaml`: its models, loading, checks and JSON Schema.

Begin with `models`, then `load`, which keeps line numbers so that `problems` can name the line in errors. `stages` and
`storage` hold sections of the file. `adapters` checks options against the installed adapters without importing
a model.
"""

from diptych.config.adapters import check_adapters, json_schema
from diptych.config.load import load_config, parse_config
from diptych.config.models import Config, SearchConfig, SearchParams, SlotConfig
from diptych.config.problems import Source
from diptych.config.storage import Stored, VectorStorage

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
