"""Export a checkpoint to ONNX files of each precision.

All of it builds, reads or rewrites networks and graphs, so the extra that brings the libraries is checked here, once.
"""

from dpt_deploy.core.optional import extra

with extra("export", purpose="exporting"):
    import onnx_ir  # noqa: F401
    import timm  # noqa: F401
    import torch  # noqa: F401
