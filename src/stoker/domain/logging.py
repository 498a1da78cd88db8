"""How long an endpoint's output is kept. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from stoker.domain.errors import Invalid

# Ended workers are remembered for so long, and their output with them.
RETENTION_S_MAX = 7 * 86_400.0
BYTES_MAX = 1024**4


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """Output of ended workers is kept for `retention_s` after their end, and up to `bytes_max` for the whole endpoint,
    the newest first. Output of a running worker is bounded by the installation's `worker_log_mib`.
    """

    retention_s: float = RETENTION_S_MAX
    bytes_max: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 0 <= self.retention_s <= RETENTION_S_MAX:
            raise Invalid.at(
                "/logging/retention_s", f"retention_s must be between 0 and {RETENTION_S_MAX:g}, which is a week"
            )
        if not 0 <= self.bytes_max <= BYTES_MAX:
            raise Invalid.at("/logging/bytes_max", f"bytes_max must be between 0 and {BYTES_MAX}")
