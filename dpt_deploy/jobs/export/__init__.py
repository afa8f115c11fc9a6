"""Export a checkpoint to ONNX files of each precision."""
