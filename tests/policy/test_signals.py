"""Signals of workers from what was measured of them: shares, ages, and what is unknown."""

from __future__ import annotations

from stoker.domain.hardware import HardwareRequest
from stoker.domain.measurements import STALE_S, EngineMetrics, GpuLoad, Measured, Resources
from stoker.domain.worker import WorkerId
from stoker.policy.signals import Reading, Signals, fresh, of_worker

NOW = 100.0
W = WorkerId("w")
GIB = 1024**3


def card(utilization: float | None, memory: float | None) -> GpuLoad:
    return GpuLoad(
        id="GPU", utilization=utilization, memory_bytes=GIB, memory_total_bytes=80 * GIB, memory_utilization=memory
    )


def test_what_is_too_old_is_as_good_as_unknown() -> None:
    assert fresh(Reading(3.0, STALE_S)) == 3.0
    assert fresh(Reading(3.0, STALE_S + 0.1)) is None
    assert fresh(None) is None


def test_a_worker_uses_a_share_of_what_its_hardware_asks_for() -> None:
    taken = Resources(at=NOW - 4, cpus=1.5, memory_bytes=2 * GIB, gpus=(card(0.2, 0.5), card(0.6, 0.25)))
    engine = EngineMetrics(at=NOW - 6, values={"running": 3.0})
    hardware = HardwareRequest(vcpu=2, ram_gib=8)
    found = of_worker(7, Measured(worker=W, engine=engine, resources=taken), hardware, {}, now=NOW)
    assert found.cpu == Reading(0.75, 4.0)
    assert found.memory == Reading(0.25, 4.0)
    assert found.gpu_utilization == Reading(0.4, 4.0)
    assert found.gpu_memory == Reading(0.375, 4.0)
    assert found.readings()["engine.running"] == Reading(3.0, 6.0)


def test_what_was_not_measured_or_not_asked_for_is_unknown_and_not_zero() -> None:
    nothing = of_worker(7, Measured(worker=W), HardwareRequest(vcpu=2), {}, now=NOW)
    taken = Resources(at=NOW, cpus=None, memory_bytes=GIB, gpus=(card(None, 0.5),))
    little = of_worker(7, Measured(worker=W, resources=taken), HardwareRequest(vcpu=2), {}, now=NOW)
    assert nothing.readings() == {}
    assert set(little.readings()) == {"gpu_memory"}


def test_numbers_that_are_missing_are_absent_and_not_zero() -> None:
    signals = Signals(in_flight=1, waiting=0, busy_at=NOW, age_s=0.5, service_s=Reading(2.0, 9.0))
    told = signals.readings()
    assert told["waiting"] == Reading(0.0, 0.5)
    assert told["service_s"] == Reading(2.0, 9.0)
    assert "start_s" not in told
