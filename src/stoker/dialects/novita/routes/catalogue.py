"""Limits, clusters and products."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from stoker.dialects.novita.caller import Caller, KeyedRoute
from stoker.dialects.novita.products import Product, products
from stoker.dialects.novita.wire.catalogue import ClusterOut, ClustersOut, ProductListedOut, ProductsOut
from stoker.dialects.novita.wire.limits import LIMITS, LimitsOut
from stoker.domain.hardware import DEFAULT_REGION

router = APIRouter(route_class=KeyedRoute, tags=["catalogue"])

# So many free cards are many.
PLENTY = 4
Text = Annotated[str | None, Query(max_length=255)]


@router.get("/endpoint/limit", operation_id="get-limits")
async def get_limits(context: Caller) -> LimitsOut:
    """The ranges of an endpoint's numbers."""
    return LIMITS


@router.get("/clusters", operation_id="list-clusters")
async def list_clusters(context: Caller) -> ClustersOut:
    """The regions of this installation."""
    known = products(context.services, context.principal)
    return ClustersOut(
        data=[
            ClusterOut(
                id=name,
                name=name,
                available_gpu_type=[each.name for each in known if each.family and name in each.regions],
                support_network_storage=name == DEFAULT_REGION,
                support_instance_network=False,
            )
            for name, _ in sorted(context.services.views.regions.items(), key=lambda pair: pair[1])
        ]
    )


@router.get("/products", operation_id="list-products")
async def list_products(
    context: Caller,
    cluster_id: Annotated[Text, Query(alias="clusterId")] = None,
    gpu_num: Annotated[int | None, Query(alias="gpuNum", ge=0, le=8)] = None,
    product_name: Annotated[Text, Query(alias="productName")] = None,
    min_cpu: Annotated[int | None, Query(alias="minCpuPerGpu", ge=0, le=2**31)] = None,
    min_memory: Annotated[int | None, Query(alias="minMemoryPerGpu", ge=0, le=2**31)] = None,
    min_rootfs: Annotated[int | None, Query(alias="minRootFSSize", ge=0, le=2**31)] = None,
    billing: Annotated[Literal["onDemand", "monthly", "spot"] | None, Query(alias="billingMethod")] = None,
) -> ProductsOut:
    """The kinds of cards that endpoints can be made of, and the one without."""
    if (min_rootfs or 0) > LIMITS.max_rootfs_size or billing in ("monthly", "spot"):
        return ProductsOut(data=[])
    found = [
        each
        for each in products(context.services, context.principal)
        if (cluster_id is None or cluster_id in each.regions)
        and (gpu_num is None or gpu_num <= each.most)
        and (product_name is None or product_name.casefold() in each.name.casefold())
        and each.vcpu >= (min_cpu or 0)
        and each.ram_gib >= (min_memory or 0)
    ]
    return ProductsOut(data=[_shown(each) for each in found])


@router.get("/cpu/products", operation_id="list-cpu-products")
async def list_cpu_products(
    context: Caller,
    cluster_id: Annotated[Text, Query(alias="clusterId")] = None,
    product_name: Annotated[Text, Query(alias="productName")] = None,
) -> ProductsOut:
    """None: those are of instances."""
    return ProductsOut(data=[])


def _shown(each: Product) -> ProductListedOut:
    return ProductListedOut(
        id=each.id,
        name=each.name,
        cpu_per_gpu=each.vcpu,
        memory_per_gpu=each.ram_gib,
        disk_per_gpu=0,
        available_deploy=each.free > 0,
        min_root_fs=LIMITS.min_rootfs_size,
        max_root_fs=LIMITS.max_rootfs_size,
        min_local_storage=LIMITS.min_local_volume_size,
        max_local_storage=LIMITS.max_local_volume_size,
        regions=list(each.regions),
        inventory_state="none" if not each.free else "high" if each.free >= PLENTY else "low",
    )
