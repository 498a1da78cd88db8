"""What a pod says of its worker: whether it runs, where, how it ended, and what stands in its way. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from signal import Signals
from typing import Any

from stoker.domain.times import seconds_of
from stoker.domain.worker import Address, Exit, Observed, WorkerId
from stoker.providers.kubernetes import steps
from stoker.providers.kubernetes.nodes import quantity
from stoker.providers.kubernetes.options import KubernetesOptions
from stoker.providers.kubernetes.pods import LISTEN, PORT, WORKER

ENDED = frozenset({"Succeeded", "Failed"})
# After the time that a pod was given to end: its node would have said so long ago.
LOST_AFTER_S = 15.0
# A program that a signal has ended exits with this much more than the signal's number.
_SIGNALLED = 128
_GIB = 2**30
# What no later try of the node will change.
_FOR_GOOD = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_TRYING = frozenset({"ContainerCreating", "PodInitializing"})
# Of a registry: there is no such image, or it is not for us.
_REFUSALS = ("not found", "unauthorized", "denied", "manifest unknown", "no such image", "authentication required")
# Who ends a pod, in the words of its condition DisruptionTarget.
_DISRUPTIONS = {
    "PreemptionByScheduler": "preempted for a pod of higher priority",
    "EvictionByEvictionAPI": "evicted, as before work on its node",
    "DeletionByTaintManager": "its node was lost, or may keep it no longer",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "ended by its node",
}
NODE_LOST = "its node has stopped answering (NodeLost)"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a pod from running, and since when somebody has seen that (seconds since the epoch)."""

    since: float
    scheduled: bool
    text: str


def worker_of(pod: Mapping[str, Any]) -> WorkerId:
    """Whose pod it is."""
    return WorkerId(pod["metadata"]["labels"][WORKER])


def observed(
    pod: Mapping[str, Any],
    options: KubernetesOptions,
    *,
    hindered: Obstacle | None,
    asked: bool,
    now: float,
    preparing: str = "",
) -> Observed:
    """`hindered`: by what, as `hindrance` remembers it. `asked`: its end was asked for here. `now` is in seconds since
    the epoch. `preparing`: how far its step is, if that runs.
    """
    worker = worker_of(pod)
    end = steps.failed(pod) or exit_of(pod) or _given_up(pod, now) or _stuck(hindered, options, now)
    if end is not None:
        return Observed(id=worker, running=False, exit=end)
    leaving = "" if asked or "deletionTimestamp" not in pod["metadata"] else disruption(pod)
    return Observed(
        id=worker,
        running=True,
        address=address_of(pod, options),
        leaving=leaving,
        preparing=preparing,
        began_at=steps.began_at(pod),
    )


def running(pod: Mapping[str, Any]) -> bool:
    """Does its program run, as far as its node has said?"""
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return any("running" in (each.get("state") or {}) for each in statuses)


def ended(pod: Mapping[str, Any]) -> bool:
    """Has its program ended, or can it never begin?"""
    return pod.get("status", {}).get("phase") in ENDED or _terminated(pod) is not None


def exit_of(pod: Mapping[str, Any]) -> Exit | None:
    """How it ended; `None` while it runs, or waits for that."""
    status = pod.get("status", {})
    state = _terminated(pod)
    if state is None and status.get("phase") not in ENDED:
        return None
    # What ended the pod as a whole says more than an exit code: Evicted, Terminated, UnexpectedAdmissionError.
    why = _reason(status.get("reason"), status.get("message"))
    if not why and "deletionTimestamp" in pod["metadata"] and _disrupted(pod) is not None:
        why = disruption(pod)
    if state is None:
        at = seconds_of(status.get("startTime") or pod["metadata"]["creationTimestamp"])
        return Exit(code=None, at=at, reason=why or "ended")
    at = (
        seconds_of(state["finishedAt"]) if state.get("finishedAt") else seconds_of(pod["metadata"]["creationTimestamp"])
    )
    code = -int(state["signal"]) if state.get("signal") else int(state["exitCode"])
    if state.get("reason") == "OOMKilled":
        return Exit(code=-9, at=at, reason=f"out of memory: killed at its limit{_memory_of(pod)} (OOMKilled)")
    if state.get("reason") not in (None, "Error", "Completed"):
        # ContainerCannotRun, StartError, DeadlineExceeded: it never came to its program.
        return Exit(code=code, at=at, reason=why or _reason(state["reason"], state.get("message")))
    code, text = _coded(code)
    return Exit(code=code, at=at, reason=f"{text}; {why}" if why else text)


def _coded(code: int) -> tuple[int, str]:
    number = -code if code < 0 else code - _SIGNALLED
    try:
        signal = Signals(number) if number > 0 else None
    except ValueError:
        signal = None
    if signal is None:
        return code, f"exited with code {code}"
    return -signal.value, f"killed by signal {signal.value} ({signal.name})"


def _terminated(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for container in pod.get("status", {}).get("containerStatuses") or ():
        state: Mapping[str, Any] | None = (container.get("state") or {}).get("terminated")
        if state is not None:
            return state
    return None


def _memory_of(pod: Mapping[str, Any]) -> str:
    limits = (pod["spec"]["containers"][0].get("resources") or {}).get("limits") or {}
    return f" of {quantity(limits['memory']) / _GIB:g} GiB" if "memory" in limits else ""


def _reason(name: object, message: object) -> str:
    return ": ".join(str(each).strip() for each in (name, message) if each)


def _disrupted(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for each in pod.get("status", {}).get("conditions") or ():
        if each["type"] == "DisruptionTarget" and each["status"] == "True":
            found: Mapping[str, Any] = each
            return found
    return None


def disruption(pod: Mapping[str, Any]) -> str:
    """Why somebody else ends it."""
    found = _disrupted(pod)
    if found is None:
        return "its pod was deleted by somebody else"
    reason = str(found.get("reason", ""))
    text = _DISRUPTIONS.get(reason, "ended by the cluster")
    return _reason(f"{text} ({reason})" if reason else text, found.get("message"))


def _given_up(pod: Mapping[str, Any], now: float) -> Exit | None:
    """Its node does not answer: it is to end because of that, or was to end long ago."""
    deadline = pod["metadata"].get("deletionTimestamp")
    if deadline is None:
        return None
    by_taint = (_disrupted(pod) or {}).get("reason") == "DeletionByTaintManager"
    if overdue(pod, now) or (by_taint and _silent(pod)):
        return Exit(code=None, at=seconds_of(deadline), reason=NODE_LOST)
    return None


def _silent(pod: Mapping[str, Any]) -> bool:
    """Does its node not answer? Of such pods the cluster says that they are not ready, and nothing else: what their
    nodes last said of the containers stays.
    """
    status = pod.get("status", {})
    said = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    return status.get("reason") == "NodeLost" or (
        said.get("Ready") == "False" and said.get("ContainersReady") == "True"
    )


def overdue(pod: Mapping[str, Any], now: float) -> bool:
    """Should it have ended long ago?"""
    deadline = pod["metadata"].get("deletionTimestamp")
    return deadline is not None and now > seconds_of(deadline) + LOST_AFTER_S


def obstacle(pod: Mapping[str, Any]) -> str:
    """What keeps it from running, in the cluster's words; nothing when all is well, or on its way."""
    status = pod.get("status", {})
    # One that waits for a step before it says no more than that.
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting")
        if waiting is not None and waiting.get("reason") not in (None, *_TRYING):
            return _reason(waiting["reason"], waiting.get("message"))
    for each in status.get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return _reason(each.get("reason") or "Unschedulable", each.get("message"))
    return ""


def hindrance(pod: Mapping[str, Any], before: Obstacle | None, *, now: float) -> Obstacle | None:
    """The same with its beginning. `before` is what was remembered of this pod."""
    text, scheduled = obstacle(pod), bool(pod["spec"].get("nodeName"))
    if not text:
        return None
    if before is None or before.scheduled != scheduled:
        return Obstacle(now, scheduled, text)
    # While a node waits before the next try, it says what is to be fetched, not what went wrong.
    said_more = text.startswith("ImagePullBackOff") and before.text.startswith(("ErrImagePull", "ImagePullBackOff"))
    if said_more and len(text) < len(before.text):
        text = before.text.replace("ErrImagePull", "ImagePullBackOff", 1)
    return Obstacle(before.since, scheduled, text)


def _stuck(hindered: Obstacle | None, options: KubernetesOptions, now: float) -> Exit | None:
    """An obstacle that stays, which is as good as an end: another node, or another pool, may do better."""
    if hindered is None:
        return None
    reason, words = hindered.text.partition(":")[0], hindered.text.lower()
    refused = reason in _FOR_GOOD or ("Image" in reason and any(each in words for each in _REFUSALS))
    patience_s = options.failing_s if hindered.scheduled else options.unschedulable_s
    if not refused and now - hindered.since < patience_s:
        return None
    return Exit(code=None, at=hindered.since, reason=f"never ran: {hindered.text}")


def address_of(pod: Mapping[str, Any], options: KubernetesOptions) -> Address | None:
    """Where it is reached; `None` while it has no address, or listens nowhere."""
    annotations, status = pod["metadata"].get("annotations") or {}, pod.get("status", {})
    if options.on_nodes:
        host, port = status.get("hostIP"), annotations.get(PORT)
    else:
        host, port = status.get("podIP"), annotations.get(LISTEN)
    return Address(host=host, port=int(port)) if host and port else None
