"""Compiled kernels are kept from process to process, until a file that any of them is made from changes."""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit, types
from numba.core.errors import TypingError
from numba.extending import overload

import crossbar_sim
import crossbar_sim.kernels.compiling  # whose listener is tested

PROGRAM = """
import numpy as np
from crossbar_sim.converters.states import UniformAdc
from crossbar_sim.kernels.mvm import Draws, read_columns
one, y = np.ones(1), np.empty((1, 1))
read_columns(
    np.full((1, 1), 3.0), np.empty((0, 1)), 1.0, 0.0, Draws(False, False, False), UniformAdc(1.0, 2), None, None, one,
    one, 0 * one, np.zeros(2, np.uint32), np.zeros(1, np.uint32), 0, True, y, np.zeros(1, bool),
)
print(y[0, 0], sum(read_columns.stats.cache_hits.values()))
"""


def test_a_change_of_what_a_kernel_calls_is_noticed(tmp_path):
    source = Path(crossbar_sim.__file__).parent
    for package in ("crossbar_sim", "device_models"):
        shutil.copytree(
            source.parent / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "*.md")
        )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}

    def run():
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment
        )
        return done.stdout.split()

    assert run() == ["2.0", "0"]
    assert run() == ["2.0", "1"]
    law = tmp_path / "crossbar_sim/converters/elementwise.py"
    text = law.read_text(encoding="utf-8")
    assert text.count("dtype(adc.levels)") == 2  # of the uniform ADC and another
    law.write_text(text.replace("dtype(adc.levels)", "dtype(adc.levels + 5)"), encoding="utf-8")
    assert run() == ["3.0", "0"]


def _spy(value):
    raise TypeError("only inside kernels")


def test_garbage_is_collected_again_after_compiling_and_after_its_failure():
    seen = []

    @overload(_spy)
    def _seen(value):
        seen.append(gc.isenabled())
        if value == types.complex64:
            raise TypingError("not this one")
        return lambda value: value

    compiled = njit(lambda value: _spy(value))
    assert compiled(1) == 1
    assert gc.isenabled()
    with pytest.raises(TypingError):
        compiled(np.complex64(1))
    assert gc.isenabled()
    gc.disable()
    try:
        compiled(1.0)
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert seen
    assert not any(seen)
