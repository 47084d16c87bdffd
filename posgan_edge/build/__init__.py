"""What makes engines: ONNX export, FP16, INT8, calibration and TensorRT plans."""
