"""The config file: models, loading, checks against the adapters at hand, JSON Schema."""

from diptych.config.adapters import check_adapters
from diptych.config.load import load_config, parse_config
from diptych.config.models import Config
from diptych.config.schema import json_schema
from diptych.config.source import Source

__all__ = ["Config", "Source", "check_adapters", "json_schema", "load_config", "parse_config"]
