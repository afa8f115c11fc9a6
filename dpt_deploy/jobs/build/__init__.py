"""Build TensorRT engines from exported models."""

from dpt_deploy.core.optional import extra

with extra("export", purpose="building an engine"):
    import onnx  # noqa: F401  every build reads the graph
