"""What the inspector of a fake engine lists, in the form of the real one."""

import json


class Inspector:
    """Tells types of a context only: shapes are dynamic."""

    def __init__(self, layers):
        self.layers, self.execution_context = layers, None

    def get_engine_information(self, _form):
        listed = self.layers if self.execution_context else [without_formats(each) for each in self.layers]
        return json.dumps({"Layers": listed})


def without_formats(entry):
    """An entry as it is without a context."""
    unknown = "Format not available due to dynamic shapes."
    return {
        key: [{**tensor, TYPE_KEY: unknown} for tensor in value] if key in ("Inputs", "Outputs") else value
        for key, value in entry.items()
    }


TYPE_KEY = "Datatype"  # TensorRT 11, and TensorRT-RTX from 1.6 on


def layer(kind, name, gives, takes=()):
    """An entry of the inspector's list."""
    sides = {"Inputs": takes, "Outputs": [gives]}
    listed = {side: [{"Name": "t", TYPE_KEY: each} for each in formats] for side, formats in sides.items()}
    return {"LayerType": kind, "Name": name, **listed}
