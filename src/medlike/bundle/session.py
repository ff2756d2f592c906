"""The runtime's session on a bundle's graph: float32, one thread an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medlike.bundle import runtime
from medlike.errors import BundleError
from medlike.types import Array

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUT = "image"
HALF = ".half"  # ending of the names of float16 weights in a graph, each of which is followed by a Cast


def open_session(graph: str | Path, weights: Mapping[str, Array] | None = None) -> InferenceSession:
    """Open a session of ONNX Runtime on a graph, one thread a call; calls may run in parallel.

    Args:
        graph: The graph's file.
        weights: All weights of the graph by name; unless given they are read from the file beside it that it names.

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
    names = [f"{name}{HALF}" if value.dtype == np.float16 else name for name, value in (weights or {}).items()]
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in (weights or {}).values()]
    try:
        if values:
            options.add_external_initializers(names, values)
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        session.medlike_weights = values  # the runtime may use them where they lie
        return session
    except Exception as error:  # the runtime's exceptions share no base class
        reason = str(error).splitlines()[0][:300]
        raise BundleError(f"the runtime cannot open {graph}: {reason}; fetch or export the bundle again") from error


def code_values(session: InferenceSession, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the output "bits" of each picture run alone: uint8 [N, S, S] -> float32 [N, K]; a bit is value > 0."""
    return np.concatenate([session.run(["bits"], {INPUT: picture[None]})[0] for picture in pictures])
