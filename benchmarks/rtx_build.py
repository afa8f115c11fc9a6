"""Does the builder of TensorRT-RTX take these files? It needs no GPU; running the engine would.

16-bit attention is left whole, so that a build proves a fused kernel for it; FP32 attention may be decomposed.

Usage: pip install tensorrt-rtx==1.7.1.116; python benchmarks/rtx_build.py MODEL.onnx… [SIZE]
"""

import sys
import time

import tensorrt_rtx as trt


def build(path, size):
    """What came of one file, in a line: the engine's size, or the builder's messages."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    if not trt.OnnxParser(network, log).parse_from_file(path):
        return f"not parsed: {log.first()}"
    if "-fp32" in path:
        decompose_attention(network)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, *[(1, 3, size, size)] * 3)
    config.add_optimization_profile(profile)
    begun = time.monotonic()
    engine = builder.build_serialized_network(network, config)
    took = time.monotonic() - begun
    return f"not built: {log.first()}" if engine is None else f"built, {engine.nbytes / 1e6:.1f} MB in {took:.1f} s"


def decompose_attention(network):
    """The parser hands out plain layers; their class has to be told."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True


class Log(trt.ILogger):
    """Keeps errors."""

    def __init__(self):
        super().__init__()
        self.errors = []

    def log(self, severity, message):
        if severity <= trt.ILogger.ERROR:
            self.errors.append(message)

    def first(self):
        told = [line for line in self.errors if "ERROR" in line or "Error" in line] or self.errors
        return " ".join(told[0].split())[:300] if told else "no message"


if __name__ == "__main__":
    files = [entry for entry in sys.argv[1:] if entry.endswith(".onnx")]
    side = next((int(entry) for entry in sys.argv[1:] if entry.isdigit()), 192)
    print(f"TensorRT-RTX {trt.__version__}, {side} pixels")
    for file in files:
        print(f"{file}: {build(file, side)}", flush=True)
