"""Switches off the usage reports of the libraries beneath diptych. Whatever of diptych imports one calls `quiet` first.

| library | what it does unless told not to |
|---|---|
| onnxruntime 1.32 | keeps a device id and an event database in the cache folder, sends events |
| openvino (openvino-telemetry) | keeps an id in the home folder, sends an event at import |
| haystack | keeps an id in the home folder, sends an event when a pipeline runs |
| ray | sends cluster facts while a cluster runs |
| huggingface_hub, transformers | add facts about the machine to their requests |
| datasets | counts downloads of data sets of the hub |
| transformers | asks a public service to convert weights of hub models that are not safetensors |

A variable that is set already is left as it is. DIPTYCH_VENDOR_TELEMETRY=on leaves every library as its maker ships it.
"""

from __future__ import annotations

import os
import sys

SWITCH = "DIPTYCH_VENDOR_TELEMETRY"
VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
}


def quiet() -> None:
    """Switch off the usage reports of the libraries that diptych uses, in this process and those that it starts.

    The command calls it, and so do the packages of adapters and of training when they are imported; `import diptych`
    does not. A library that was imported before has started its reports: those that can still be stopped
    are, unless the application had decided otherwise.
    """
    if os.environ.get(SWITCH, "").lower() in ("on", "1", "true"):
        return
    undecided = VARIABLES.keys() - os.environ.keys()
    os.environ.update({name: VARIABLES[name] for name in undecided})
    # The package does nothing else, and OpenVINO runs without it. None: importing it raises ModuleNotFoundError.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if "ORT_DISABLE_TELEMETRY" in undecided and (runtime := sys.modules.get("onnxruntime")):
        getattr(runtime, "disable_telemetry_events", lambda: None)()
    if "HAYSTACK_TELEMETRY_ENABLED" in undecided and (reports := sys.modules.get("haystack.telemetry._telemetry")):
        vars(reports)["telemetry"] = None
