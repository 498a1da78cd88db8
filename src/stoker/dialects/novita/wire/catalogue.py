"""What there is to choose from: clusters and products; and log-ins and storages as they are asked for and shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from stoker.dialects.novita.wire.base import Number, Wire

Filled = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class ClusterOut(Wire):
    id: str
    name: str
    available_gpu_type: list[str]
    support_network_storage: bool
    support_instance_network: bool


class ClustersOut(Wire):
    data: list[ClusterOut]


class MonthlyOut(Wire):
    price: int
    month: int


class ProductListedOut(Wire):
    """A product. Nothing here has a price in money of that cloud's."""

    id: str
    name: str
    cpu_per_gpu: int
    memory_per_gpu: int
    disk_per_gpu: int
    available_deploy: bool
    min_root_fs: Annotated[int, Field(alias="minRootFS")]
    max_root_fs: Annotated[int, Field(alias="maxRootFS")]
    min_local_storage: int
    max_local_storage: int
    regions: list[str]
    price: int = 0
    monthly_price: list[MonthlyOut] = Field(default_factory=list)
    billing_methods: list[str] = Field(default=["onDemand"])
    spot_price: str = "0"
    inventory_state: str


class ProductsOut(Wire):
    data: list[ProductListedOut]


class AuthIn(Wire):
    name: Filled
    username: Filled
    password: Filled


class AuthOut(Wire):
    id: str
    name: str
    username: str
    password: str


class AuthsOut(Wire):
    data: list[AuthOut]


class IdIn(Wire):
    id: Filled


class IdOut(Wire):
    id: str


class StorageIn(Wire):
    cluster_id: Filled
    storage_name: Filled
    storage_size: Annotated[Number, Field(ge=1, le=1_000_000)]


class StoragePatch(Wire):
    storage_id: Filled
    storage_name: Filled | None = None
    storage_size: Annotated[Number, Field(ge=1, le=1_000_000)] | None = None


class StorageIdIn(Wire):
    id: Filled | None = None
    storage_id: Filled | None = None

    @property
    def reference(self) -> str:
        """Which storage."""
        return self.storage_id or self.id or ""


class StorageMadeOut(Wire):
    id: str
    storage_id: str


class StorageOut(StorageMadeOut):
    storage_name: str
    storage_size: int
    cluster_id: str
    cluster_name: str
    price: str = "0"


class StoragesOut(Wire):
    data: list[StorageOut]
    total: int
