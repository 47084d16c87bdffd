"""The time of engines on this machine, measured in turns so that they share its state.

python examples/benchmark.py edge edge-fp16.onnx --rounds 200
"""

import argparse

import numpy as np

from posgan_edge import load_engine
from posgan_edge.evaluation.latency import Latency, Ratio
from posgan_edge.timing import take_turns


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    calls = {}
    for model in options.models:
        engine = load_engine(model)
        size = engine.info.input_size
        image = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        calls[model] = lambda engine=engine, image=image: engine.infer(image)
    times = take_turns(calls, options.rounds)
    for model in options.models:
        latency = Latency.of(times[model])
        ratio = Ratio.of(times[model], times[options.models[0]])
        print(
            f"{model}: median {latency.median:.2f} ms, p90 {latency.p90:.2f} ms, "
            f"{ratio.value:.2f} of the first ({ratio.low:.2f} to {ratio.high:.2f})"
        )


if __name__ == "__main__":
    main()
