"""Measuring mapped models: metrics and sweeps. Tables out, no drawing."""
