"""The runtime's session on a bundle's graph: float32, one thread an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medlike.bundle import runtime
from medlike.errors import BundleError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUT = "image"


def open_session(graph: str | Path) -> InferenceSession:
    """Open a session of ONNX Runtime on a graph, one thread a call; calls may run in parallel.

    Weights are read from the file beside the graph that it names.

    Raises:
        BundleError: The runtime refuses the graph.
    """
    onnxruntime = runtime.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class
        reason = str(error).splitlines()[0][:300]
        raise BundleError(f"the runtime cannot open {graph}: {reason}; fetch or export the bundle again") from error


def code_values(session: InferenceSession, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the output "bits" of each picture run alone: uint8 [N, S, S] -> float32 [N, K]; a bit is value > 0."""
    return np.concatenate([session.run(["bits"], {INPUT: picture[None]})[0] for picture in pictures])
