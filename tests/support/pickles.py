"""Objects that do something when they are unpickled."""

from __future__ import annotations

import ctypes
import functools
import importlib
import multiprocessing
import operator
import os
import pathlib
import pickle
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def hostile(mark: Path) -> dict[str, tuple[Any, str]]:
    """Objects that do something when they are unpickled, and the name that the message has to tell."""
    touch = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": (Calls(os.system, f"touch {mark}"), "posix.system"),
        "eval": (Calls(eval, touch), "eval"),
        "exec": (Calls(exec, touch), "exec"),
        "Popen": (Calls(subprocess.Popen, ["touch", str(mark)]), "commands.Popen"),  # its name in pickle protocol 2
        "Path.touch": (Calls(pathlib.Path.touch, mark), "getattr"),
        "hub": (Calls(torch.hub.load, str(mark.parent), "touch", "local"), "torch.hub.load"),
        "nested": (Calls(torch.load, str(mark)), "torch.serialization.load"),
        "storage": (Calls(torch.storage._load_from_bytes, b"x"), "torch.storage._load_from_bytes"),
        "no argument": (Calls(os.getpid), "posix.getpid"),
        "import": (Calls(__import__, "this"), "__import__"),
        "rmtree": (Calls(shutil.rmtree, str(mark.parent)), "shutil.rmtree"),
        "module": (Calls(importlib.import_module, "this"), "importlib.import_module"),
        "runpy": (Calls(runpy.run_path, str(mark)), "runpy.run_path"),
        "open": (Calls(open, str(mark), "w"), "io.open"),
        "library": (Calls(ctypes.CDLL, str(mark)), "ctypes.CDLL"),
        "process": (Calls(multiprocessing.Process, str(mark)), "Process"),
        "method": (Calls(operator.methodcaller, "touch"), "operator.methodcaller"),
        "partial": (functools.partial(shutil.rmtree, str(mark.parent)), "functools.partial"),
        "numpy": (Calls(np.load, str(mark)), "numpy.load"),
        "pickle": (Calls(pickle.loads, b"x"), "pickle.loads"),
    }
