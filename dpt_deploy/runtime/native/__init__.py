"""The C++ runtime through ctypes."""
