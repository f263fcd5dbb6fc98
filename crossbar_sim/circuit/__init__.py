"""Wires of an array: exact nodal solution, effective conductances, closed forms, non-linear devices, SPICE decks."""

from crossbar_sim.kernels import compiling as compiling  # says how long kernels are kept, ahead of all that are
