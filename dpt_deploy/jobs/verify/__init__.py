"""Compare an artefact with a reference, and find the tensor at which they diverge.

Everything but ``pytorch``, ``type_loss``, ``locate``, ``variants`` and ``diagnose`` works without PyTorch and onnx.
"""
