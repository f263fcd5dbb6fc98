"""Compiled kernels: arrays in, arrays out; no Pydantic, no torch. `reference` has each of them in readable NumPy."""
