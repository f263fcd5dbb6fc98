"""Devices of a matrix: tables for kernels from what specifies them, and programming by gradient descent."""

from crossbar_sim.kernels import compiling as compiling  # says how long kernels are kept, ahead of all that are
