"""Deployments as endpoints: what is said once is in one place, and what is not said stays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.gcore.client import container, deployment
from stoker.dialects.gcore.flavors import Flavor, Place
from stoker.dialects.gcore.mapping import changed, created, image_of, model_of, retention_s
from stoker.dialects.gcore.wire.deployments import DeploymentIn, DeploymentPatch
from stoker.domain.endpoint import Access, EndpointSpec
from stoker.domain.errors import Invalid
from stoker.domain.triggers import Rate, Resource

SMALL = Flavor(name="inference-2vcpu-8gib", vcpu=2, ram_gib=8, providers=((1, "process"), (2, "docker")))
CARD = Flavor(
    name="inference-8vcpu-32gib-1xl40s-48gb",
    vcpu=8,
    ram_gib=32,
    gpus=1,
    family="l40s",
    vram_gib=48,
    providers=((1, "process"),),
)
PLACE = Place(regions={1: "local", 2: "far"}, flavors={each.name: each for each in (SMALL, CARD)})


def made(**more: Any) -> EndpointSpec:
    return created(DeploymentIn.model_validate(deployment(**more)), PLACE)


def patched(spec: EndpointSpec, **more: Any) -> EndpointSpec:
    return changed(spec, DeploymentPatch.model_validate(more), PLACE)


def refused(field: str, make: Any) -> None:
    with pytest.raises(Invalid) as found:
        make()
    assert [problem.pointer for problem in found.value.problems] == [field]


def test_a_container_is_a_pool_in_its_region_with_the_flavors_hardware() -> None:
    spec = made(containers=[container(1, min=1, max=3), container(2, min=0, max=2)])
    assert [(pool.provider, pool.hardware.region, pool.bounds.min, pool.bounds.max) for pool in spec.pools] == [
        ("process", "local", 1, 3),
        ("docker", "far", 0, 2),
    ]
    card = made(flavor_name=CARD.name).pools[0].hardware
    assert (card.gpu_family, card.gpu_count, card.vram_gib_min, card.vcpu, card.ram_gib) == ("l40s", 1, 48, 8, 32)


def test_what_there_is_not_is_refused_with_its_place() -> None:
    refused("/flavor_name", lambda: made(flavor_name="none"))
    refused("/containers/0/region_id", lambda: made(containers=[container(3)]))
    refused("/containers/1/region_id", lambda: made(containers=[container(1), container(1)]))
    refused("/containers/0/region_id", lambda: made(flavor_name=CARD.name, containers=[container(2)]))


def test_access_follows_keys() -> None:
    assert made().access is Access.OPEN
    assert made(auth_enabled=True).access is Access.ATTACHED
    assert made(auth_enabled=False, api_keys=["key1"]).access is Access.ATTACHED
    shut = made(api_keys=["key1"])
    assert patched(shut, description="x").access is Access.ATTACHED
    assert patched(shut, api_keys=[]).access is Access.OPEN
    assert patched(shut, auth_enabled=False).access is Access.OPEN


@pytest.mark.parametrize(("timeout", "idle_s"), [(None, 120), (0, 60), (59, 60), (300, 300)])
def test_timeout_is_the_idle_time(timeout: int | None, idle_s: float) -> None:
    assert made(timeout=timeout).scaling.idle_timeout_s == idle_s


def test_retention_is_how_long_output_is_kept_up_to_a_week() -> None:
    def kept(period: int | None) -> tuple[float | None, float]:
        spec = made(logging={"enabled": True, "retention_policy": {"period": period}})
        return retention_s(spec), spec.logging.retention_s

    assert kept(1) == (86_400, 86_400)
    assert kept(42) == (42 * 86_400, 7 * 86_400)
    assert kept(None) == (None, 7 * 86_400)
    spec = made(logging={"enabled": True, "retention_policy": {"period": 1}})
    assert patched(spec, logging={"enabled": False}).logging.retention_s == 7 * 86_400


def scaled(**triggers: Any) -> dict[str, Any]:
    return container(triggers=triggers)


def test_triggers_are_the_endpoints_own() -> None:
    default = made().scaling.triggers
    assert default.utilization == {Resource.CPU: 0.8, Resource.MEMORY: 0.8}
    assert (default.rate, default.queues, default.every_s) == (None, (), 30)
    spec = made(
        containers=[
            {**scaled(gpu_utilization={"threshold": 70}, http={"rate": 10, "window": 60}), "region_id": 1},
            container(
                2,
                polling_interval=5,
                triggers={
                    "gpu_utilization": {"threshold": 50},
                    "gpu_memory": {"threshold": 90},
                    "http": {"rate": 1, "window": 1},
                },
            ),
        ]
    ).scaling.triggers
    assert spec.utilization == {Resource.GPU_UTILIZATION: 0.5, Resource.GPU_MEMORY: 0.9}, "the strictest of each"
    assert (spec.rate, spec.every_s) == (Rate(requests=10, window_s=60), 5)


def test_a_queue_is_polled_where_it_is_said_at_which_address() -> None:
    sqs = {
        "activation_queue_length": 2,
        "aws_region": "eu",
        "queue_length": 10,
        "queue_url": "https://sqs.eu.amazonaws.com/1/q",
        "secret_name": "aws",
    }
    assert made(containers=[scaled(sqs=sqs)]).scaling.triggers.queues == ()
    asked = scaled(sqs={**sqs, "aws_endpoint": "https://sqs.eu.amazonaws.com", "scale_on_flight": True})
    [queue] = made(containers=[asked, {**asked, "region_id": 2}]).scaling.triggers.queues
    assert (queue.url, queue.endpoint) == (sqs["queue_url"], "https://sqs.eu.amazonaws.com")
    assert (queue.messages, queue.activation, queue.in_flight, queue.delayed) == (10, 2, True, False)


def test_an_image_of_the_catalogue_is_its_model() -> None:
    spec = made(image=image_of("owner/Model-1"))
    assert (spec.launch.model, spec.launch.image) == ("owner/Model-1", None)
    back = patched(spec, image="nginx:latest")
    assert (back.launch.model, back.launch.image) == (None, "nginx:latest")
    assert (model_of("stoker/models/"), model_of("nginx")) == (None, None)


def test_regions_that_are_left_out_go_and_new_ones_come_with_the_flavor() -> None:
    spec = made(containers=[container(1, cooldown_period=7)])
    both = patched(spec, containers=[container(1), container(2)], flavor_name=SMALL.name)
    assert [pool.hardware.region for pool in both.pools] == ["local", "far"]
    assert both.scaling.scale_down_delay_s == 60, "the longest of all"
    one = patched(both, containers=[container(1)])
    assert [pool.hardware.region for pool in one.pools] == ["local"]
    assert one.scaling.scale_down_delay_s == 7, "kept, as nothing was said"
    assert patched(spec, flavor_name=CARD.name).pools[0].hardware.gpu_count == 1


_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
_containers = st.lists(st.sampled_from((1, 2)), min_size=1, max_size=2, unique=True).map(
    lambda regions: [container(region, min=region, max=region + 2) for region in regions]
)
_bodies = st.fixed_dictionaries(
    {"containers": _containers},
    optional={
        "description": _text,
        "command": st.lists(_text.filter(bool), max_size=3),
        "envs": st.dictionaries(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), _text, max_size=2),
        "timeout": st.none() | st.integers(0, 604_800),
        "ingress_opts": st.fixed_dictionaries({"disable_response_buffering": st.booleans()}),
        "auth_enabled": st.booleans(),
        "probes": st.just({"startup_probe": {"enabled": True, "probe": {"tcp_socket": {"port": 80}}}}),
    },
)


@given(_bodies)
def test_a_change_of_nothing_changes_nothing(body: dict[str, Any]) -> None:
    spec = made(**body)
    assert patched(spec) == spec
    nulls = dict.fromkeys(("description", "envs", "timeout", "image", "containers", "flavor_name", "probes", "logging"))
    assert patched(spec, **nulls) == spec


@given(_bodies, _bodies)
def test_a_change_of_everything_is_as_if_made_so(before: dict[str, Any], after: dict[str, Any]) -> None:
    whole = {
        "description": "",
        "command": [],
        "envs": {},
        "timeout": 120,
        "auth_enabled": False,
        "ingress_opts": {"disable_response_buffering": False},
        "probes": {"startup_probe": {"enabled": False, "probe": {"tcp_socket": {"port": 80}}}},
        "flavor_name": SMALL.name,
    }
    said = {**whole, **after}
    if said["timeout"] is None:
        said["timeout"] = 120
    first = made(**{**before, "probes": whole["probes"]})
    assert patched(first, **said) == made(**said)
