"""ONNX Runtime, imported with its telemetry off."""

from __future__ import annotations

import os
from types import ModuleType


def onnxruntime() -> ModuleType:
    """Return the module onnxruntime; every import of it in medlike goes through this function.

    The Linux builds (seen in 1.32) write a device id and a queue of events under the user's cache folder, and
    name a host to send them to. They obey `ORT_DISABLE_TELEMETRY`, which must be set before the import;
    `disable_telemetry_events()` alone does not stop the files.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    # Where the caller's own code has imported it earlier, this still stops the recording of events.
    onnxruntime.disable_telemetry_events()
    module: ModuleType = onnxruntime
    return module
