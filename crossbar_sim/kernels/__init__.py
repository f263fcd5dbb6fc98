"""Compiled kernels: arrays in, arrays out; no Pydantic, no torch. `reference` has each of them in readable NumPy."""

from crossbar_sim.kernels import compiling as compiling  # says how long kernels are kept, ahead of all that are
