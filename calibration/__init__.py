"""Measured tables of a device in, a device that drops into a chip specification out.

This room fits `device_models` to measurements. Its fitters are not here yet.
"""
