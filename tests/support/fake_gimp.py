"""A fake of GIMP 3 for its plug-in in Python: the few classes of ``gi.repository`` that it uses, on NumPy arrays."""

import sys
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np
from support.paths import ROOT

PLUG_IN = ROOT / "tools/gimp/dpt-depth.py"
_FORMATS = {"R'G'B' u8": (np.uint8, 3), "Y' float": (np.float32, 1)}


class Buffer:
    """Pixels of a layer in one of two formats."""

    def __init__(self, layer):
        self._layer = layer

    def get(self, area, scale, form, _abyss):
        kind, channels = _FORMATS[form]
        x, y, width, height = area
        pixels = self._layer.pixels[y : y + height, x : x + width]
        assert (scale, pixels.dtype, pixels.shape[2]) == (1.0, kind, channels)
        return pixels.tobytes()

    def set(self, area, form, data):
        kind, channels = _FORMATS[form]
        _, _, width, height = area
        self._layer.pixels = np.frombuffer(data, kind).reshape(height, width, channels)

    def flush(self):
        self._layer.flushed = True


class Layer:
    """A layer; ``new`` makes one without pixels."""

    def __init__(self, width, height, *, pixels=None, group=False):
        self.width, self.height, self.pixels, self.group = width, height, pixels, group
        self.offsets, self.flushed, self.updated = (0, 0), False, None

    @classmethod
    def new(cls, image, name, width, height, kind, opacity, mode):
        made = cls(width, height)
        made.name, made.kind, made.opacity, made.mode, made.image = name, kind, opacity, mode, image
        return made

    def is_group(self):
        return self.group

    def get_width(self):
        return self.width

    def get_height(self):
        return self.height

    def get_parent(self):
        return None

    def get_offsets(self):
        return True, *self.offsets

    def set_offsets(self, x, y):
        self.offsets = (x, y)

    def get_buffer(self):
        return Buffer(self)

    def update(self, *area):
        self.updated = area


class Image:
    """An image with its layers, the top one first."""

    def __init__(self, *layers, base="rgb"):
        self.layers, self.base, self.open_groups = list(layers), base, 0

    def get_base_type(self):
        return self.base

    def get_default_new_layer_mode(self):
        return "normal"

    def get_item_position(self, layer):
        return self.layers.index(layer)

    def insert_layer(self, layer, parent, position):
        assert parent is None
        self.layers.insert(position, layer)

    def undo_group_start(self):
        self.open_groups += 1

    def undo_group_end(self):
        self.open_groups -= 1


class Procedure:
    """A procedure that records what was set; its return values are a list of the status and the error."""

    def __init__(self, name):
        self.name, self.calls = name, {}

    def __getattr__(self, name):
        return lambda *given: self.calls.setdefault(name, given)

    def new_return_values(self, status, error):
        return [status, error]


def names(*values):
    """An enumeration whose members are their own names in lower case."""
    return SimpleNamespace(**{value: value.lower() for value in values})


def gimp_modules():
    """The modules by their names in ``sys.modules``."""
    gimp = ModuleType("Gimp")
    gimp.PlugIn, gimp.Layer, gimp.said = type("PlugIn", (), {}), Layer, []
    gimp.RunMode = names("INTERACTIVE", "NONINTERACTIVE", "WITH_LAST_VALS")
    gimp.PDBStatusType = names("SUCCESS", "CANCEL", "EXECUTION_ERROR")
    gimp.ImageBaseType, gimp.ImageType = names("RGB", "GRAY", "INDEXED"), names("RGB_IMAGE", "GRAY_IMAGE")
    gimp.PDBProcType, gimp.ProcedureSensitivityMask = names("PLUGIN"), names("DRAWABLE")
    gimp.FileChooserAction = names("OPEN")
    gimp.ImageProcedure = SimpleNamespace(new=lambda _plug_in, name, *_: Procedure(name))
    gimp.ValueArray = SimpleNamespace(new_from_values=list)
    gimp.progress_init, gimp.displays_flush = gimp.said.append, lambda: gimp.said.append("flushed")
    gegl = SimpleNamespace(Rectangle=SimpleNamespace(new=lambda *area: area), AbyssPolicy=names("NONE"))
    parameters = SimpleNamespace(Value=lambda _kind, value: value, ParamFlags=names("READWRITE"))
    error = SimpleNamespace(Error=lambda message="": message)
    dialog = SimpleNamespace(fill=lambda _names: None, run=lambda: False, destroy=lambda: None)
    window = SimpleNamespace(init=lambda _name: None, ProcedureDialog=SimpleNamespace(new=lambda *_: dialog))
    repository = SimpleNamespace(Gegl=gegl, Gimp=gimp, GimpUi=window, GLib=error, GObject=parameters)
    return {"gi": SimpleNamespace(require_version=lambda *_: None, repository=repository), "gi.repository": repository}


@contextmanager
def plug_in():
    """The plug-in as a module, in a Python that has the fake."""
    with mock.patch.dict(sys.modules, gimp_modules()):
        spec = spec_from_file_location("dpt_depth", PLUG_IN)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
