"""Measure images a second of the runtime and of OpenVINO in float32 on one bundle, one thread, alternating.

Run `python -m pip install openvino`, then `python research/benchmarks/openvino_peer.py medlike-itq-64`.
"""

import sys
import tempfile
import time

import numpy as np

from medlike.bundle import Bundle, rewrite
from medlike.bundle.session import INPUT

ROUNDS = 30
IMAGES = 16


def runtime(bundle):
    """Return a function from a picture to its bits by medlike's runtime."""
    session = bundle.session()
    return lambda picture: session.run(["bits"], {INPUT: picture[None]})[0]


def openvino(bundle):
    """Return a function from a picture to its bits by OpenVINO."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1"}
    with tempfile.TemporaryDirectory() as folder:  # OpenVINO reads the weights beside the graph
        whole = rewrite(bundle, f"{folder}/{bundle.name}")
        model = openvino.Core().compile_model(str(whole.graph), "CPU", settings)
    request = model.create_infer_request()
    return lambda picture: request.infer({INPUT: picture[None]})["bits"]


def main():
    """Time both in turn and print the best rounds."""
    bundle = Bundle.load(sys.argv[1] if len(sys.argv) > 1 else "medlike-itq-64")
    pictures = list(bundle.golden_inputs()[:IMAGES])
    peers, best, values = {}, {}, {}
    for name, make in (("onnxruntime", runtime), ("openvino", openvino)):
        start = time.perf_counter()
        peers[name] = make(bundle)
        print(f"{name}: ready after {time.perf_counter() - start:.2f} s")
        values[name] = np.concatenate([peers[name](picture) for picture in pictures])
        best[name] = []
    for _ in range(ROUNDS):
        for name, run in peers.items():
            start = time.perf_counter()
            for picture in pictures:
                run(picture)
            best[name].append((time.perf_counter() - start) / len(pictures))
    for name, seconds in best.items():
        quickest, middle = min(seconds), float(np.median(seconds))
        print(f"{name}: {1 / quickest:.0f} images/s at best, {1 / middle:.0f} in the median")
    equal = ((values["onnxruntime"] > 0) == (values["openvino"] > 0)).mean()
    print(f"equal bits: {equal:.4f}")


if __name__ == "__main__":
    main()
