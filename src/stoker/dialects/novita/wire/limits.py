"""The ranges of an endpoint's numbers: what the limits call tells is what creating and updating enforce."""

from __future__ import annotations

from pydantic import Field

from stoker.dialects.novita.wire.base import Wire
from stoker.domain.errors import Invalid


class LimitsOut(Wire):
    """GB, seconds and pieces. The cloud's own values are not public: these are what Stoker can do."""

    min_rootfs_size: int = 1
    max_rootfs_size: int = 130
    free_rootfs_size: int = 100
    min_local_volume_size: int = 0
    max_local_volume_size: int = 200
    free_local_volume_size: int = 30
    min_worker_num: int = 0
    max_worker_num: int = 100
    min_free_timeout: int = 0
    max_free_timeout: int = 86_400
    min_concurrency_num: int = 1
    max_concurrency_num: int = 1_000
    min_queue_wait_time: int = 1
    max_queue_wait_time: int = 3_600
    min_request_num: int = 1
    max_request_num: int = 10_000
    # No cards are needed where there are none.
    minGPUNum: int = 0
    maxGPUNum: int = 8
    cuda_version_list: list[str] = Field(default_factory=list)

    def check(self, what: str, pointer: str, value: int) -> None:
        """Raises `Invalid` for a value out of the range that is called so here."""
        low, high = getattr(self, f"min{what}"), getattr(self, f"max{what}")
        if not low <= value <= high:
            raise Invalid.at(pointer, f"between {low} and {high}, and not {value}")


LIMITS = LimitsOut()
