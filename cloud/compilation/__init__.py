"""Turn a trained ONNX model into gated variants per platform."""
