"""Effects that any device may have, from their specifications to the tables that kernels take."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.kernels.chance import below
from crossbar_sim.kernels.effects import LAW, SHOT, VERIFY, Curve, Effects
from crossbar_sim.kernels.faults import FaultTable
from crossbar_sim.kernels.programming import VerifyTable
from crossbar_sim.kernels.telegraph import TelegraphTable
from crossbar_sim.spec.programming import AbstractTargetProgramming, Programming, ProgramVerify, SingleShot
from device_models import AbstractDevice
from device_models.effects import StuckFaults, TelegraphNoise
from device_models.errors import UsageError

_NOTHING = np.zeros(2, np.float32)
_LONGEST = 1e300
"""Times relative to the fastest trap: within it neither they nor their inverse overflow."""


def effect_tables(device: AbstractDevice, programming: Programming, t_s: float, t_obs_s: float | None) -> Effects:
    """The effects of a device, and how it is programmed, t_s seconds after programming.

    t_obs_s is the observation window of read noise, None where reads meet none.
    """
    g = device.nodes_uS()
    heat = None if device.temperature is None or device.temperature.is_ideal else device.temperature
    noise = None if t_obs_s is None else device.telegraph
    faults = fault_table(device.faults or StuckFaults(), device.g_min_uS, device.g_max_uS)
    traps = None if noise is None or t_obs_s is None else telegraph_table(noise, t_s, t_obs_s)
    verify = verify_table(programming, device.g_min_uS) if isinstance(programming, ProgramVerify) else ()
    return Effects(
        written_by=VERIFY if verify else SHOT if isinstance(programming, SingleShot) else LAW,
        shot_sigma=programming.sigma_write if isinstance(programming, SingleShot) else 0.0,
        verify=np.array(verify, np.float64),
        has_temperature=heat is not None,
        log_factor=_NOTHING if heat is None else np.log(heat.factor(g / device.g_max_uS)).astype(np.float32),
        log_sigma=0.0 if heat is None else heat.log_sigma,
        has_telegraph=traps is not None,
        trap_words=np.array(traps[1:4] if traps else (0, 0, 0), np.uint64),
        traps=np.array((traps[0], *traps[4:]) if traps else (), np.float64),
        trap_delta_uS=_NOTHING if noise is None else _amplitude(noise, g, device.g_max_uS),
        has_faults=bool(faults.random_below > 0),
        fault_words=np.array(faults[:3], np.uint64),
        fault_window_uS=np.array(faults[3:], np.float64),
        retargets=isinstance(programming, AbstractTargetProgramming) and programming.retarget_stuck,
    )


def verify_table(spec: ProgramVerify, start_uS: float) -> VerifyTable:
    """Programming of devices that all start at `start_uS`, the conductance after a RESET."""
    return VerifyTable(
        start_uS=start_uS,
        alpha=spec.alpha,
        tolerance_uS=spec.tolerance_uS,
        max_pulses=spec.max_pulses,
        sigma_write_uS=spec.sigma_write_uS,
        sigma_write_relative=spec.sigma_write_relative,
        sigma_read_uS=spec.sigma_read_uS / spec.reads_averaged**0.5,
    )


def fault_table(faults: StuckFaults, g_min_uS: float, g_max_uS: float) -> FaultTable:
    """The faults of devices with a given conductance window."""
    return FaultTable(
        reset_below=below(faults.p_reset),
        set_below=below(faults.p_reset + faults.p_set),
        random_below=below(min(faults.p_stuck, 1.0)),
        g_min_uS=g_min_uS,
        g_max_uS=g_max_uS,
    )


def telegraph_table(noise: TelegraphNoise, t_s: float, t_obs_s: float) -> TelegraphTable:
    """Traps of a device t_s seconds after programming; those faster than t_obs_s vary from read to read."""
    shortest_s = max(noise.tau_min_s, t_obs_s)
    if not 0 <= t_s < 2.0**53 * shortest_s:
        raise UsageError(
            f"t_s = {t_s:g}: must be at least 0 and below 2^53 correlation times of the fastest trap that is followed "
            f"in time, {2.0**53 * shortest_s:.3g} s; a longer tau_min_s or observation window allows more"
        )
    if max(noise.tau_max_s, t_s) > _LONGEST * noise.tau_min_s:
        raise UsageError(
            f"tau_min_s = {noise.tau_min_s:g}: must be above 1e-300 of tau_max_s = {noise.tau_max_s:g} and of t_s = "
            f"{t_s:g}"
        )
    return TelegraphTable(
        occupation=noise.occupation,
        up_below=below(noise.occupation),
        trap_below=below(noise.p_trap),
        fast_below=below(noise.fast_share(t_obs_s)),
        tau_min_s=noise.tau_min_s,
        log2_tau_ratio=math.log2(noise.tau_max_s / noise.tau_min_s),
        t_s=t_s,
    )


def _amplitude(noise: TelegraphNoise, g_uS: NDArray[np.float64], g_max_uS: float) -> Curve:
    return noise.amplitude.delta_uS(g_uS, g_max_uS).astype(np.float32)
