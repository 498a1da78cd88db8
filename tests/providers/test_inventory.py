"""What a machine is said to have, with a pretended NVIDIA library."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

import ports
from stoker.domain.errors import Invalid
from stoker.domain.hardware import GpuDevice, PortRange, VirtualGpus
from stoker.providers import listeners
from stoker.providers.inventory import local_offer, outside_ephemeral, virtual_offers

GIB = 1024**3
PORTS = PortRange(20_000, 29_999)


class NvmlError(Exception):
    pass


@dataclass
class FakeNvml:
    """Cards as (uuid, name, memory in bytes). `broken` names the functions that fail, for all or for one card;
    `split` has what cards that can be split by MIG answer.
    """

    cards: list[tuple[str | bytes, str | bytes, int]] = field(default_factory=list)
    broken: set[str | tuple[str, int]] = field(default_factory=set)
    split: dict[int, int] = field(default_factory=dict)
    open: int = 0
    NVMLError: type[Exception] = NvmlError

    def _check(self, name: str, index: int | None = None) -> None:
        if name in self.broken or (index is not None and (name, index) in self.broken):
            raise NvmlError(name)

    def nvmlInit(self) -> None:
        self._check("init")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1
        self._check("shutdown")

    def nvmlDeviceGetCount(self) -> int:
        self._check("count")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._check("handle", index)
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str | bytes:
        return self.cards[handle][0]

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return self.cards[handle][1]

    def nvmlSystemGetDriverVersion(self) -> bytes:
        self._check("driver")
        return b"570.1"

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        if handle not in self.split:
            raise NvmlError("not supported")
        return [self.split[handle], 1]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        self._check("memory", handle)
        return SimpleNamespace(total=self.cards[handle][2])


H100 = ("GPU-1", "NVIDIA H100 80GB HBM3", 85_520_809_984)
A5000 = (b"GPU-2", b"NVIDIA RTX A5000", 24 * GIB)


def test_cards_are_named_as_their_runtime_calls_them_and_by_family() -> None:
    nvml = FakeNvml([H100, A5000])
    assert local_offer(PORTS, nvml).gpus == (
        GpuDevice(index=0, id="GPU-1", family="h100", vram_gib=79.6),
        GpuDevice(index=1, id="GPU-2", family="a5000", vram_gib=24.0),
    )
    assert nvml.open == 0


def test_a_split_card_is_not_used_as_a_whole_one_and_said_so() -> None:
    offer = local_offer(PORTS, FakeNvml([H100, H100, A5000], split={0: 1, 1: 0}))
    assert [gpu.index for gpu in offer.gpus] == [1, 2]
    assert offer.notes == ("card 0 (h100) is split by MIG, which is not supported: whole cards only",)
    assert offer.driver == "570.1"


def test_pretended_cards_are_parts_of_this_machine_that_share_its_ports() -> None:
    local = local_offer(PORTS, FakeNvml())
    wanted = [
        VirtualGpus(family="a5000", count=2, region="eu"),
        VirtualGpus(family="a100", vram_gib=40, vcpu=4, ram_gib=16, disk_gib=100),
        VirtualGpus(family="a5000"),
    ]
    first, second, third = virtual_offers(local, wanted)
    assert [offer.host for offer in (first, second, third)] == [
        f"{local.host}/a5000",
        f"{local.host}/a100",
        f"{local.host}/a5000-2",
    ]
    assert all(offer.virtual and offer.ports == local.ports for offer in (first, second, third))
    assert (first.vcpu, first.ram_gib, first.disk_gib, first.region) == (16, 64, None, "eu")
    assert (second.vcpu, second.ram_gib, second.disk_gib) == (4, 16, 100)
    assert first.gpus[1] == GpuDevice(index=1, id="1", family="a5000", vram_gib=24, virtual=True)
    assert second.gpus[0].vram_gib == 40


@pytest.mark.parametrize("broken", ["init", "count", "driver"])
def test_without_a_driver_that_answers_there_are_no_cards(broken: str) -> None:
    nvml = FakeNvml([H100], broken={broken})
    assert local_offer(PORTS, nvml).gpus == ()
    assert nvml.open == 0


@pytest.mark.parametrize("broken", ["handle", "memory"])
def test_a_card_that_does_not_answer_is_left_out_and_the_others_keep_their_indexes(broken: str) -> None:
    nvml = FakeNvml([H100, A5000], broken={(broken, 0)})
    offer = local_offer(PORTS, nvml)
    assert [(gpu.index, gpu.id) for gpu in offer.gpus] == [(1, "GPU-2")]
    assert offer.notes == (f"card 0 does not answer: {broken}",)


def test_a_library_that_cannot_be_closed_is_no_reason_to_have_no_cards() -> None:
    assert len(local_offer(PORTS, FakeNvml([H100], broken={"shutdown"})).gpus) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who listens")
def test_ports_where_somebody_listens_are_known() -> None:
    with socket.socket() as one, socket.socket(socket.AF_INET6) as other, socket.socket() as quiet:
        for each, address in ((one, "127.0.0.1"), (other, "::"), (quiet, "127.0.0.1")):
            each.bind((address, 0))
        one.listen()
        other.listen()
        taken, also, bound = (each.getsockname()[1] for each in (one, other, quiet))
        found = {port for port, _ in listeners.listening()}
        assert {taken, also} <= found
        assert bound not in found
    with socket.socket() as one:
        one.bind(("127.0.0.1", ports.free()))
        one.listen()
        taken = one.getsockname()[1]
        offer = local_offer(PortRange(taken, taken), FakeNvml())
        assert offer.ports_busy == {taken}
        assert virtual_offers(offer, [VirtualGpus(family="h100", count=1)])[0].ports_busy == {taken}


def test_the_machine_has_processors_memory_and_ports() -> None:
    offer = local_offer(PORTS, FakeNvml())
    assert offer.vcpu > 0
    assert offer.ram_gib > 0.1
    assert offer.ports is not None


@pytest.mark.parametrize(
    ("ports", "left"),
    [
        pytest.param((20_000, 29_999), (20_000, 29_999), id="below"),
        pytest.param((61_000, 62_000), (61_000, 62_000), id="above"),
        pytest.param((32_767, 32_767), (32_767, 32_767), id="one port, just below"),
        pytest.param((30_000, 40_000), (30_000, 32_767), id="reaches in from below"),
        pytest.param((60_000, 62_000), (61_000, 62_000), id="reaches in from above"),
        pytest.param((32_767, 40_000), (32_767, 32_767), id="one port is left"),
        pytest.param((30_000, 65_535), (61_000, 65_535), id="around it, more above"),
        pytest.param((20_000, 62_000), (20_000, 32_767), id="around it, more below"),
    ],
)
def test_ports_that_the_kernel_uses_itself_are_cut_away(ports: tuple[int, int], left: tuple[int, int]) -> None:
    assert outside_ephemeral(PortRange(*ports), PortRange(32_768, 60_999)) == PortRange(*left)


@pytest.mark.parametrize("ports", [(32_768, 60_999), (40_000, 41_000), (32_768, 32_768), (60_999, 60_999)])
def test_ports_wholly_within_the_kernels_own_are_refused(ports: tuple[int, int]) -> None:
    with pytest.raises(Invalid, match=r"worker_ports .* choose ports outside"):
        outside_ephemeral(PortRange(*ports), PortRange(32_768, 60_999))


def test_where_the_kernel_tells_nothing_the_ports_stay_as_they_are() -> None:
    assert outside_ephemeral(PORTS, None) == PORTS
