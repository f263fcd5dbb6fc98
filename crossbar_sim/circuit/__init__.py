"""Wires of an array: exact nodal solution, effective conductances, closed forms, non-linear devices, SPICE decks."""
