"""What Novita's API shows of an endpoint, sent back, is that endpoint; and it shows what was asked for."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from stoker.dialects.novita import mapping, showing
from stoker.dialects.novita.errors import Refused
from stoker.dialects.novita.products import Product, chosen
from stoker.dialects.novita.wire.endpoints import EndpointIn, UpdateIn
from stoker.domain.endpoint import Access, Endpoint, EndpointSpec, PoolSpec
from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec, SecretRef
from stoker.domain.queueing import Mode
from stoker.domain.scaling import QueueDelay, ScalingPolicy
from stoker.domain.views import Condition, EndpointState, EndpointView
from stoker.domain.volumes import Volume, VolumeMount, VolumeState

URL = "http://127.0.0.1:7878"
L40S = Product(
    id="l40s-48gb", name="L40S 48GB", family="l40s", vram_gib=48, vcpu=4, places=(("local", "process"), ("b", "docker"))
)
CPU = Product(id="cpu", name="CPU", places=(("local", "process"), ("b", "docker")))
KNOWN = (L40S, CPU)
STORED = Volume(
    id="v-1", number=1, project=1, name="data", size_gib=10.0, provider="docker", region="b",
    state=VolumeState.READY, created_at=0.0,
)  # fmt: skip


class Doors:
    def login(self, id: str) -> str:
        return id.removeprefix("id-")

    def id_of(self, name: str) -> str:
        return f"id-{name}"

    def volume(self, id: str) -> Volume:
        assert id == STORED.id
        return STORED

    def named(self, name: str) -> Volume | None:
        return STORED if name == STORED.name else None


def endpoint_of(spec: EndpointSpec) -> Endpoint:
    made = builders.endpoint()
    return replace(made, spec=spec, launches={pool.name: made.launch for pool in spec.pools})


def shown(endpoint: Endpoint) -> dict[str, Any]:
    """As a client gets it."""
    around = showing.Surroundings(products=KNOWN, logins={"hub": "id-hub"}, volumes={"data": STORED}, base=URL)
    view = EndpointView(
        endpoint=endpoint, condition=Condition(EndpointState.IDLE), workers={}, traffic=None, url="", openai_url=""
    )
    found: dict[str, Any] = json.loads(showing.got(view, (), around).model_dump_json())["endpoint"]
    return found


def sent_back(endpoint: Endpoint, *names: str, **changes: Any) -> EndpointSpec:
    """What becomes of it when a client sends what it got: what is required, and these fields."""
    found = shown(endpoint)
    body = {name: found[name] for name in ("id", "workerConfig", "ports", "policy", "image", *names)}
    return mapping.changed(endpoint, UpdateIn.model_validate(body | changes), KNOWN, Doors())


OPTIONAL = ("name", "appName", "rootfsSize", "envs", "volumeMounts", "healthy", "products")
texts = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=1, max_size=8)
policies: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(dict, type=st.just("queue"), value=st.integers(1, 3_600)),
    st.builds(dict, type=st.just("concurrency"), value=st.integers(1, 10_000)),
)
endpoints: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    name=texts,
    appName=st.none() | st.sampled_from(["", "app", "a-1"]),
    type=st.sampled_from([None, "sync", "async"]),
    rootfsSize=st.integers(1, 130),
    workerConfig=st.builds(
        dict,
        minNum=st.integers(0, 5),
        maxNum=st.integers(5, 100),
        freeTimeout=st.integers(0, 86_400).map(str),
        maxConcurrent=st.integers(1, 1_000),
        gpuNum=st.just(0),
        requestTimeout=st.none() | st.integers(1, 604_800),
        cudaVersion=st.none() | st.just("12.4"),
    ),
    ports=st.integers(1, 2_221).map(lambda port: [{"port": str(port)}]),
    policy=policies,
    image=st.builds(
        dict,
        image=texts,
        authId=st.sampled_from([None, "", "id-hub"]),
        command=st.lists(texts, max_size=3).map(shlex.join),
    ),
    products=st.sampled_from([[{"id": "cpu"}], [{"id": "1"}], [{"id": "l40s-48gb"}]]),
    clusterID=st.sampled_from(["b"]),
    volumeMounts=st.lists(
        st.builds(dict, type=st.just("local"), size=st.integers(0, 200), mountPath=st.just("/w"))
        | st.just({"type": "network", "id": "v-1", "mountPath": "/data"}),
        max_size=2,
        unique_by=lambda mount: str(mount["type"]),
    ),
    envs=st.lists(st.builds(dict, key=st.sampled_from(["A", "B_1"]), value=texts), max_size=2),
    healthy=st.none() | st.just({"path": "/live"}),
)


@given(asked=endpoints)
def test_an_endpoint_is_shown_as_it_was_asked_for_and_stays_when_that_comes_back(asked: dict[str, Any]) -> None:
    spec = mapping.created(EndpointIn.model_validate(asked), asked["name"], KNOWN, Doors(), url=URL)
    endpoint = endpoint_of(spec)
    found = shown(endpoint)
    assert (found["name"], found["type"]) == (asked["name"], asked["type"] or "sync")
    assert found["rootfsSize"] == asked["rootfsSize"]
    for name in ("minNum", "maxNum", "freeTimeout", "gpuNum"):
        assert found["workerConfig"][name] == asked["workerConfig"][name]
    assert found["policy"] == {"type": asked["policy"]["type"], "value": str(asked["policy"]["value"])}
    assert (found["image"]["image"], found["image"]["command"]) == (asked["image"]["image"], asked["image"]["command"])
    assert [{k: each[k] for k in ("type", "mountPath")} for each in found["volumeMounts"]] == [
        {k: each[k] for k in ("type", "mountPath")} for each in sorted(asked["volumeMounts"], key=lambda m: m["type"])
    ]
    assert sent_back(endpoint) == spec
    assert sent_back(endpoint, *OPTIONAL, clusterID=found["clusterID"]) == spec


@given(asked=endpoints, after=policies, most=st.integers(5, 100))
def test_what_an_update_says_is_what_is_shown_after_it(asked: dict[str, Any], after: dict[str, Any], most: int) -> None:
    endpoint = endpoint_of(mapping.created(EndpointIn.model_validate(asked), asked["name"], KNOWN, Doors(), url=URL))
    config = {**shown(endpoint)["workerConfig"], "maxNum": most}
    spec = sent_back(endpoint, policy=after, workerConfig=config, image={"image": "other"}, ports=[{"port": 81}])
    found = shown(endpoint_of(spec))
    assert (found["policy"]["type"], int(found["policy"]["value"])) == (after["type"], after["value"])
    assert (found["workerConfig"]["maxNum"], found["image"]["image"], found["ports"]) == (most, "other", [{"port": 81}])
    before = shown(endpoint)
    assert {name: found[name] for name in OPTIONAL} == {name: before[name] for name in OPTIONAL}


def test_an_endpoint_of_a_model_keeps_it_until_an_image_takes_its_place() -> None:
    launch = LaunchSpec(model="tiny", parameters=("--a",), env={"KEY": SecretRef("token"), "B": "1"})
    volumes = (VolumeMount(volume="data", path="/d", read_only=True), VolumeMount(volume="hidden"))
    scaling = ScalingPolicy(idle_timeout_s=604_800)
    notes = {"gcore/description": ""}
    spec = EndpointSpec(name="n", launch=launch, scaling=scaling, mode=Mode.MIXED, volumes=volumes, annotations=notes)
    endpoint = endpoint_of(spec)
    assert sent_back(endpoint, *OPTIONAL) == spec
    assert shown(endpoint)["envs"][0] == {"key": "KEY", "value": "secret:token"}
    changed = sent_back(endpoint, image={"image": "img"}, envs=[{"key": "KEY", "value": "secret:token"}])
    assert (changed.launch.model, changed.launch.image, changed.launch.parameters) == (None, "img", ())
    assert changed.launch.env == {"KEY": SecretRef("token")}
    assert changed.scaling == spec.scaling


def test_who_may_call_depends_on_where_stoker_is() -> None:
    asked = EndpointIn.model_validate(
        {
            "workerConfig": {"minNum": 0, "maxNum": 1, "freeTimeout": 1, "maxConcurrent": 1, "gpuNum": 0},
            "ports": {"port": 80}, "policy": {"type": "queue", "value": 1}, "image": {"image": "i"},
            "products": [{"id": "cpu"}], "rootfsSize": 1,
        }
    )  # fmt: skip
    for url, access in (
        (URL, Access.OPEN),
        ("http://[::1]:7878", Access.OPEN),
        ("https://localhost", Access.OPEN),
        ("http://192.0.2.1:7878", Access.PROJECT),
        ("https://stoker.example", Access.PROJECT),
    ):
        assert mapping.created(asked, "n", KNOWN, Doors(), url=url).access is access


def test_a_storage_brings_its_workers_to_its_own_provider_and_cluster() -> None:
    asked: dict[str, Any] = {
        "workerConfig": {"minNum": 0, "maxNum": 1, "freeTimeout": 1, "maxConcurrent": 1, "gpuNum": 1},
        "ports": [{"port": 80}], "policy": {"type": "queue", "value": 1}, "image": {"image": "i"},
        "products": [{"id": "1"}], "rootfsSize": 1, "clusterID": "b",
        "volumeMounts": [{"type": "network", "id": "v-1", "mountPath": "/data"}],
    }  # fmt: skip
    spec = mapping.created(EndpointIn.model_validate(asked), "n", KNOWN, Doors(), url=URL)
    assert (spec.pools[0].provider, spec.pools[0].hardware.region) == ("docker", "b")
    assert [(mount.volume, mount.path) for mount in spec.volumes] == [("data", "/data")]
    endpoint = endpoint_of(spec)
    for wrong in ({"clusterID": "local"}, {"clusterID": "", "volumeMounts": shown(endpoint)["volumeMounts"]}):
        with pytest.raises(Invalid, match="the cluster of the storage"):
            sent_back(endpoint, **wrong)
    assert sent_back(endpoint, clusterID="local", volumeMounts=[]).pools[0].hardware.region == "local"
    for cluster in ("local", "", None):
        with pytest.raises(Invalid, match="the cluster of the storage"):
            mapping.created(EndpointIn.model_validate({**asked, "clusterID": cluster}), "n", KNOWN, Doors(), url=URL)


def test_products_go_by_id_or_by_their_place() -> None:
    assert [chosen(KNOWN, id).id for id in ("1", "2", "cpu", "l40s-48gb")] == ["l40s-48gb", "cpu", "cpu", "l40s-48gb"]
    for id in ("0", "3", "-1", "²", "", "99999"):
        with pytest.raises(Refused):
            chosen(KNOWN, id)
    assert L40S.pool(2, "local") == PoolSpec(
        hardware=HardwareRequest(gpu_family="l40s", gpu_count=2, vram_gib_min=48, vcpu_per_gpu=4, region="local")
    )
    with pytest.raises(Invalid, match="gpuNum is 0"):
        CPU.pool(1, None)


def test_annotations_that_somebody_else_wrote_do_no_harm() -> None:
    notes = {
        "novita/app": "../x",
        "novita/rootfs": "much",
        "novita/local": "[1]",
        "novita/mounts": "{",
        "novita/cuda": "",
    }
    launch = LaunchSpec(command=("serve",))
    endpoint = endpoint_of(EndpointSpec(name="n", launch=launch, annotations=notes))
    found = shown(endpoint)
    assert (found["appName"], found["rootfsSize"], found["volumeMounts"]) == (endpoint.id, 100, [])
    assert endpoint.spec.scaling.triggers == ()
    assert QueueDelay not in {type(each) for each in sent_back(endpoint).scaling.triggers}
