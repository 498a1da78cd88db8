"""The typed Python package `novita-sdk`, unmodified, sync and async, against a real Stoker."""

from __future__ import annotations

from typing import Any

import pytest

from clients.novita import conformance
from clients.novita.running import IDLE, Raised, Sdk, Stoker, asked

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_everything_it_can_do_with_endpoints_and_what_stands_around_them(sdk: Sdk, stoker: Stoker) -> None:
    _around(sdk)
    limits = sdk("endpoints.get_limit_ranges")
    assert limits["minGPUNum"] <= limits["maxGPUNum"]
    assert len(limits) == 19
    # It asks for one port as an object, and reads the id alone.
    endpoint = {**asked(IDLE, name="typed", volumeMounts=[]), "ports": {"port": "8080"}, "healthy": {"path": "/h"}}
    made = sdk("endpoints.create", {"model": "CreateEndpointRequest", "value": {"endpoint": endpoint}})["id"]
    assert made in [each["id"] for each in sdk("endpoints.list")]
    found = sdk("endpoints.get", made)
    assert (found["name"], found["workerConfig"]["freeTimeout"], found["healthy"]["path"]) == ("typed", 300, "/h")
    # And sends objects as lists of one.
    change = {
        "name": "renamed",
        "workerConfig": [{**endpoint["workerConfig"], "maxNum": 2}],
        "ports": [{"port": "9090"}],
        "policy": [{"type": "concurrency", "value": 3}],
        "image": [{"image": IDLE}],
        "healthy": [{"path": "/live"}],
    }
    sdk("endpoints.update", made, {"model": "UpdateEndpointRequest", "value": change})
    found = sdk("endpoints.get", made)
    assert (found["name"], found["workerConfig"]["maxNum"], found["healthy"]["path"]) == ("renamed", 2, "/live")
    assert (found["policy"], found["ports"]) == ({"type": "concurrency", "value": 3}, [{"port": "9090"}])
    sdk("endpoints.delete", made)
    with pytest.raises(Raised, match="there is no endpoint") as raised:
        sdk("endpoints.get", "missing")
    assert raised.value.kind == "BadRequestError"
    assert conformance.of(conformance.SDK) - sdk.driven == set()


def _around(sdk: Sdk) -> None:
    assert [each["id"] for each in sdk("clusters.list")] == ["local"]
    assert [each["id"] for each in sdk("products.list")] == ["l40s-48gb", "cpu"]
    assert sdk("products.list_cpu") == []
    sdk("registries.create", "https://registry.test/v2/", "u", "p")
    [auth] = sdk("registries.list")
    assert (auth["name"], auth["username"]) == ("registry.test", "u")
    sdk("registries.delete", auth["id"])
    storage: dict[str, Any] = {"clusterId": "local", "storageName": "typed", "storageSize": 10}
    made = sdk("storages.create", {"model": "CreateNetworkStorageRequest", "value": storage})["storageId"]
    change = {"storageId": made, "storageName": "typed", "storageSize": 20}
    sdk("storages.update", {"model": "UpdateNetworkStorageRequest", "value": change})
    [found] = sdk("storages.list")
    assert (found["storageId"], found["storageSize"]) == (made, 20)
    sdk("storages.delete", made)
