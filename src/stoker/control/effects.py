"""What passes lead to outside of the store: starts, ends, cold workers, probes. Used by the reconciler alone.

Each may be asked for again at any time: what is under way or done already is not done twice.
"""

from __future__ import annotations

from stoker.control import cold
from stoker.control.fleet import Fleet
from stoker.control.managed import Providers, models_at
from stoker.control.prober import Prober, Target
from stoker.control.provisions import Provisions
from stoker.control.worker_specs import worker_spec
from stoker.domain.endpoint import Endpoint
from stoker.domain.launch import Launch
from stoker.domain.probe import Probes
from stoker.domain.worker import Worker, WorkerState


class Effects:
    """See the module."""

    def __init__(self, fleet: Fleet, providers: Providers, provisions: Provisions, prober: Prober) -> None:
        self._fleet = fleet
        self._providers = providers
        self._provisions = provisions
        self._prober = prober

    def launch(self, endpoint: Endpoint, worker: Worker) -> Launch | None:
        """What this worker runs; `None` for one of a pool that is gone, which the next plan stops."""
        return (self._fleet.revision_of(worker) or endpoint.as_revision()).launch_of(worker.pool)

    def frees(self, endpoint: Endpoint, worker: Worker) -> tuple[str, ...]:
        """What this worker lets go of when it is kept cold."""
        launch = self.launch(endpoint, worker)
        return () if launch is None else cold.frees(launch, self._providers.get(worker.provider)) or ()

    def probes(self, endpoint: Endpoint, worker: Worker) -> Probes:
        """Those of the revision that it was started from, as long as anybody remembers it."""
        revision = self._fleet.revision_of(worker)
        found = None if revision is None else revision.probes_of(worker.pool)
        return found or endpoint.as_revision().probes_of(worker.pool) or Probes()

    def start(self, endpoint: Endpoint, worker: Worker) -> None:
        """Ask its provider for it, again if need be."""
        managed, launch = self._providers.get(worker.provider), self.launch(endpoint, worker)
        if launch is not None:
            provision = self._provisions.of(endpoint, launch, models_at(managed.provider))
            probes = self.probes(endpoint, worker)
            spec = worker_spec(endpoint, launch, worker, managed, provision, probes)
            managed.actions.start(spec, then=cold.warmed(worker, launch) if worker.from_cold else None)

    def chill(self, endpoint: Endpoint, worker: Worker) -> None:
        """Have it kept cold."""
        managed, launch = self._providers.get(worker.provider), self.launch(endpoint, worker)
        if launch is not None:
            managed.actions.pause(worker.id, cold.chilled(worker, launch, managed))

    def stop(self, worker: Worker) -> None:
        """Ask for its end, again if need be."""
        managed = self._providers.get(worker.provider)
        endpoint = self._fleet.endpoint(worker.endpoint)
        grace_s = 10.0 if endpoint is None else endpoint.spec.rollout.grace_s
        managed.actions.stop(worker.id, grace_s=grace_s)

    def watch(self, endpoint: Endpoint, worker: Worker) -> None:
        """Probe a worker that should be probed."""
        starting = worker.state is WorkerState.STARTING and worker.acknowledged_at is not None
        # Its program has not begun, perhaps for hours.
        starting = starting and not worker.reason
        probed = starting or worker.state is WorkerState.READY
        # Those that ask for tasks are heard of; there is nobody to ask.
        if not probed or worker.address is None or self._fleet.ping_s(worker) is not None:
            self._prober.forget(worker.id)
            return
        provider = self._providers.get(worker.provider).provider
        launch = self.launch(endpoint, worker)
        model = launch.models[0] if launch is not None and launch.lists_models and launch.models else None
        target = Target(worker.address, provider.listens, provider.execute, model)
        self._prober.watch(worker.id, target, self.probes(endpoint, worker), starting=starting)
