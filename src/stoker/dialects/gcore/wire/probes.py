"""Probes of a deployment's containers, as they are asked for and as Stoker asks them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from stoker.dialects.gcore.wire.base import Flag, Text, Whole, Wire
from stoker.domain.probe import Probe, Probes

Port = Annotated[Whole, Field(ge=1, le=65_535)]
_Count = Annotated[Whole, Field(ge=1, le=2**31)]


class Exec(Wire):
    command: Annotated[list[str], Field(max_length=64)]


class HttpGet(Wire):
    headers: dict[str, str] = Field(default_factory=dict, max_length=32)
    host: Text | None = None
    path: Text = "/"
    port: Port
    # The key really is called so.
    schema_: Annotated[Literal["HTTP", "HTTPS"], Field(alias="schema")] = "HTTP"


class TcpSocket(Wire):
    port: Port


class Asked(Wire):
    """What is asked, and how often."""

    exec: Exec | None = None
    failure_threshold: _Count = 3
    http_get: HttpGet | None = None
    initial_delay_seconds: Annotated[Whole, Field(ge=0, le=2**31)] = 0
    period_seconds: _Count = 10
    success_threshold: _Count = 1
    tcp_socket: TcpSocket | None = None
    timeout_seconds: _Count = 3

    def to_probe(self, port: int) -> Probe | None:
        """As Stoker asks it: the container's port alone, by plain HTTP, TCP or a command; `None` for another."""
        path: str | None = None
        command: tuple[str, ...] = ()
        if self.http_get is not None:
            if self.http_get.port != port or self.http_get.schema_ != "HTTP":
                return None
            path = self.http_get.path
        elif self.tcp_socket is not None:
            if self.tcp_socket.port != port:
                return None
        elif self.exec is not None and self.exec.command:
            command = tuple(self.exec.command)
        else:
            return None
        return Probe(
            path=path,
            command=command,
            initial_delay_s=min(self.initial_delay_seconds, 3600),
            period_s=min(self.period_seconds, 3600),
            timeout_s=min(self.timeout_seconds, 300),
            failures_max=min(self.failure_threshold, 100),
            successes_min=min(self.success_threshold, 100),
        )


class ProbeConfig(Wire):
    enabled: Flag
    probe: Asked | None = None

    def to_probe(self, port: int) -> Probe | None:
        return self.probe.to_probe(port) if self.enabled and self.probe is not None else None


class ProbesConfig(Wire):
    """Each of the three may be left out."""

    model_config = ConfigDict(extra="forbid")

    liveness_probe: ProbeConfig | None = None
    readiness_probe: ProbeConfig | None = None
    startup_probe: ProbeConfig | None = None

    def to_probes(self, port: int) -> Probes:
        """As Stoker asks them of a worker."""
        made = {
            name: None if config is None else config.to_probe(port)
            for name, config in (
                ("startup", self.startup_probe),
                ("readiness", self.readiness_probe),
                ("liveness", self.liveness_probe),
            )
        }
        return Probes(**made)

    def patched(self, patch: ProbesPatch) -> ProbesConfig:
        """With what a change says: what is left out, or null, stays, but for the ways of asking. A probe that says one
        of them asks so from then on. Raises `ValidationError` when it lacks something then.
        """
        before = self.model_dump(by_alias=True)
        changes = patch.model_dump(by_alias=True, exclude_none=True)
        after = {name: _changed(before[name] or {"enabled": True}, change) for name, change in changes.items()}
        return ProbesConfig.model_validate({**before, **after})


_WAYS = ("exec", "http_get", "tcp_socket")


def _changed(before: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    was, said = before.get("probe") or {}, change.get("probe", {})
    kept = {name: value for name, value in was.items() if name not in _WAYS or not said.keys() & set(_WAYS)}
    # Of the same way, what is not said stays too.
    ways = {name: {**(was.get(name) or {}), **said[name]} for name in _WAYS if name in said}
    probe = {**kept, **said, **ways}
    return {**before, **change, "probe": probe or None}


# What of a probe is to be changed


class ExecPatch(Wire):
    command: Annotated[list[str], Field(max_length=64)] | None = None


class HttpGetPatch(Wire):
    headers: Annotated[dict[str, str], Field(max_length=32)] | None = None
    host: Text | None = None
    path: Text | None = None
    port: Port | None = None
    schema_: Annotated[Literal["HTTP", "HTTPS"] | None, Field(alias="schema")] = None


class TcpSocketPatch(Wire):
    port: Port | None = None


class AskedPatch(Wire):
    exec: ExecPatch | None = None
    failure_threshold: _Count | None = None
    http_get: HttpGetPatch | None = None
    initial_delay_seconds: Annotated[Whole, Field(ge=0, le=2**31)] | None = None
    period_seconds: _Count | None = None
    success_threshold: _Count | None = None
    tcp_socket: TcpSocketPatch | None = None
    timeout_seconds: _Count | None = None


class ProbePatch(Wire):
    enabled: Flag | None = None
    probe: AskedPatch | None = None


class ProbesPatch(Wire):
    model_config = ConfigDict(extra="forbid")

    liveness_probe: ProbePatch | None = None
    readiness_probe: ProbePatch | None = None
    startup_probe: ProbePatch | None = None
