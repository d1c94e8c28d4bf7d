"""Importing MuJoCo, which chooses its graphics while it is imported."""

import ctypes.util
import os
import sys
from typing import Any

from vjepa2.errors import MissingExtraError

GRAPHICS = "MUJOCO_GL"
# For a machine without a screen, in the order of preference, with the library that each needs.
OFF_SCREEN = {"egl": "EGL", "osmesa": "OSMesa"}


def import_mujoco() -> Any:
    """The package `mujoco`.

    On Linux without a screen MuJoCo is told to draw off-screen by the first of EGL and OSMesa that
    is there, through the variable MUJOCO_GL; one that is set already is left alone.

    Raises:
        MissingExtraError: it is not installed, or cannot be loaded.
    """
    if "mujoco" not in sys.modules:
        _choose_graphics()
    try:
        import mujoco
    except ImportError as error:
        raise MissingExtraError(
            "mujoco", extra="sim", needed_for="The simulated arm", reason=str(error)
        ) from error
    return mujoco


def _choose_graphics() -> None:
    if os.environ.get(GRAPHICS) or not sys.platform.startswith("linux"):
        return
    if os.environ.get("DISPLAY"):
        return
    for name, library in OFF_SCREEN.items():
        if ctypes.util.find_library(library):
            os.environ[GRAPHICS] = name
            return
    # Without any graphics the physics still works.
    os.environ[GRAPHICS] = "disable"
