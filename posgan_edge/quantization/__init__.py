"""FP16 and INT8: converting an exported ONNX model (needs the ``export`` extra, no torch)."""
