#!/usr/bin/env python3
"""GIMP 3: the depth of a layer as a new layer, by the C++ library of dpt-deploy. It needs GIMP's own Python only.

`dpt-deploy gimp --install` puts it into GIMP's folder with the library next to it. The library is opened when the
plug-in runs: from the variable DPT_LIBRARY, else libdpt.so.0 next to this file, else by the system's rules.
"""

from __future__ import annotations

import ctypes
import os
import sys
from array import array
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gegl", "0.4")
gi.require_version("Gimp", "3.0")
gi.require_version("GimpUi", "3.0")
from gi.repository import Gegl, Gimp, GimpUi, GLib, GObject  # noqa: E402  after the versions

PROCEDURE = "plug-in-dpt-depth"
LIBRARY = "libdpt.so.0"
OK, DEPTH, RGB8 = 0, 0, 0  # DPT_OK, DPT_DEPTH, DPT_RGB8


class Info(ctypes.Structure):
    """``dpt_info``."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("task", ctypes.c_int32),
        ("metric", ctypes.c_int32),
        ("num_classes", ctypes.c_int32),
        ("stride", ctypes.c_int32),
        ("png_scale", ctypes.c_double),
        ("precision", ctypes.c_char * 16),
        ("backend", ctypes.c_char * 32),
        ("quantity", ctypes.c_int32),
    )


class Image(ctypes.Structure):
    """``dpt_image``."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("row_bytes", ctypes.c_int64),
        ("format", ctypes.c_int32),
    )


class DepthError(Exception):
    """A message for the user."""


def open_library() -> ctypes.CDLL:
    """Open the C++ library; raises :class:`DepthError` if it is missing, or another one."""
    own = Path(__file__).with_name(LIBRARY)
    path = os.environ.get("DPT_LIBRARY") or (str(own) if own.is_file() else LIBRARY)
    try:
        library = ctypes.CDLL(path)
        library.dpt_last_error.restype = library.dpt_last_hint.restype = ctypes.c_char_p
        library.dpt_open.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64)]
        library.dpt_close.argtypes = [ctypes.c_uint64]
        library.dpt_get_info.argtypes = [ctypes.c_uint64, ctypes.POINTER(Info)]
        library.dpt_predict_depth.argtypes = [
            ctypes.c_uint64,
            ctypes.POINTER(Image),
            ctypes.c_void_p,
            ctypes.c_size_t,
        ]
    except (OSError, AttributeError) as exc:
        raise DepthError(
            f"The library of dpt-deploy was not found: {exc}. Install the plug-in again (dpt-deploy gimp --install), "
            "or set the variable DPT_LIBRARY to the path of libdpt.so before you start GIMP."
        ) from exc
    return library


def predict(path: str, pixels: bytes, width: int, height: int) -> array[float]:
    """Depth of RGB bytes (height * width * 3) as an array of floats, row by row; raises :class:`DepthError`."""
    library = open_library()

    def check(status: int) -> None:
        if status != OK:
            error, hint = (
                text().decode("utf-8", "replace") for text in (library.dpt_last_error, library.dpt_last_hint)
            )
            raise DepthError(f"{error} ({hint})")

    model, info = ctypes.c_uint64(0), Info(ctypes.sizeof(Info))
    check(library.dpt_open(os.fsencode(path), None, ctypes.byref(model)))
    try:
        check(library.dpt_get_info(model, ctypes.byref(info)))
        if info.task != DEPTH:
            raise DepthError("This model returns classes, not depth. Choose a model of depth.")
        image = Image(
            ctypes.sizeof(Image), ctypes.cast(ctypes.c_char_p(pixels), ctypes.c_void_p), height, width, 0, RGB8
        )
        depth = array("f", bytes(4 * width * height))
        check(library.dpt_predict_depth(model, ctypes.byref(image), depth.buffer_info()[0], len(depth)))
    finally:
        library.dpt_close(model)
    return depth


def stretched(depth: array[float]) -> array[float]:
    """The map over its range, from 0 to 1; a flat map becomes 0."""
    low = min(depth)
    span = max(depth) - low
    return array("f", [(value - low) / span for value in depth] if span > 0 else bytes(4 * len(depth)))


def check_layer(image: Any, drawables: list[Any]) -> Any:
    """The one layer whose depth is wanted; raises :class:`DepthError` if it has no pixels that can show one."""
    if len(drawables) != 1 or not isinstance(drawables[0], Gimp.Layer):
        raise DepthError("The depth of one layer is wanted. Select a layer, not a channel, a mask or several layers.")
    if drawables[0].is_group():
        raise DepthError("A layer group has no pixels of its own. Select a layer in it, or merge the group.")
    if image.get_base_type() == Gimp.ImageBaseType.INDEXED:
        raise DepthError("An image with a colour map cannot show depth. Convert it first: Image > Mode > RGB.")
    return drawables[0]


def add_layer(image: Any, layer: Any, depth: array[float]) -> Any:
    """Add a layer with the values of a map (0 to 1) above ``layer``; return it."""
    width, height = layer.get_width(), layer.get_height()
    grey = image.get_base_type() == Gimp.ImageBaseType.GRAY
    kind = Gimp.ImageType.GRAY_IMAGE if grey else Gimp.ImageType.RGB_IMAGE
    mode = image.get_default_new_layer_mode()
    image.undo_group_start()
    try:
        made = Gimp.Layer.new(image, "depth", width, height, kind, 100.0, mode)
        image.insert_layer(made, layer.get_parent(), image.get_item_position(layer))
        _, x, y = layer.get_offsets()
        made.set_offsets(x, y)
        buffer = made.get_buffer()
        buffer.set(Gegl.Rectangle.new(0, 0, width, height), "Y' float", depth.tobytes())
        buffer.flush()
        made.update(0, 0, width, height)
    finally:
        image.undo_group_end()
    return made


def work(image: Any, drawables: list[Any], file: Any) -> Any:
    """Add the depth of a layer by the model in ``file``; return the new layer, or raise :class:`DepthError`."""
    layer = check_layer(image, drawables)
    path = file.get_path() if file is not None else None
    if not path:
        raise DepthError("A model is wanted: the path of an exported file (.onnx with its sidecar).")
    width, height = layer.get_width(), layer.get_height()
    Gimp.progress_init("Depth")
    area = Gegl.Rectangle.new(0, 0, width, height)
    pixels = layer.get_buffer().get(area, 1.0, "R'G'B' u8", Gegl.AbyssPolicy.NONE)
    return add_layer(image, layer, stretched(predict(path, bytes(pixels), width, height)))


def ask(procedure: Any, config: Any) -> bool:
    """Show a dialog for the model; False if it was cancelled."""
    GimpUi.init("dpt-depth")
    dialog = GimpUi.ProcedureDialog.new(procedure, config, "Depth")
    dialog.fill(None)
    chosen = bool(dialog.run())
    dialog.destroy()
    return chosen


def run(procedure: Any, mode: Any, image: Any, drawables: list[Any], config: Any, _data: object) -> Any:
    """Run the procedure; an error is shown by GIMP, and handed to a script."""
    if mode == Gimp.RunMode.INTERACTIVE and not ask(procedure, config):
        return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
    try:
        made = work(image, drawables, config.get_property("model"))
    except DepthError as exc:
        return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, GLib.Error(str(exc)))
    if mode != Gimp.RunMode.NONINTERACTIVE:
        Gimp.displays_flush()
    status = GObject.Value(Gimp.PDBStatusType, Gimp.PDBStatusType.SUCCESS)
    return Gimp.ValueArray.new_from_values([status, GObject.Value(Gimp.Layer, made)])


class Depth(Gimp.PlugIn):  # type: ignore[misc]  # GIMP has no types
    """The plug-in: one procedure, in the menu of filters."""

    def do_set_i18n(self, _name: str) -> bool:
        """No translations."""
        return False

    def do_query_procedures(self) -> list[str]:
        """Names of the procedures."""
        return [PROCEDURE]

    def do_create_procedure(self, name: str) -> Any:
        """The procedure with its arguments."""
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, run, None)
        procedure.set_image_types("RGB*, GRAY*")
        procedure.set_sensitivity_mask(Gimp.ProcedureSensitivityMask.DRAWABLE)
        procedure.set_menu_label("_Depth...")
        procedure.add_menu_path("<Image>/Filters/Map")
        procedure.set_documentation(
            "Add the depth of a layer as a new layer",
            "Runs a model of dpt-deploy on the layer. The new layer lies above it; its values are stretched over the "
            "range of the depth, as in the PNG of dpt-deploy run.",
            name,
        )
        procedure.set_attribution("dpt-deploy", "MIT licence", "2026")
        flags = GObject.ParamFlags.READWRITE
        help_text = "Path of an exported model (.onnx with its sidecar)"
        procedure.add_file_argument("model", "_Model", help_text, Gimp.FileChooserAction.OPEN, False, None, flags)
        procedure.add_layer_return_value("layer", "Layer", "The new layer", False, flags)
        return procedure


if __name__ == "__main__":
    Gimp.main(Depth.__gtype__, sys.argv)
