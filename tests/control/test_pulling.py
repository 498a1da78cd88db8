"""What workers that ask for tasks find in their environment."""

from __future__ import annotations

import asyncio

from stoker.control import keyring
from stoker.control.pulling import completed
from stoker.control.vault import Vault
from stoker.domain.endpoint import EndpointId
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.store.sqlite import InlineSqliteStore


def environ_of(spec: WorkerSpec, vault: Vault) -> dict[str, str]:
    return dict(asyncio.run(completed(vault, "http://s:1", spec)).env)


def spec(env: dict[str, str] | None = None, *, ping_s: int | None = 10) -> WorkerSpec:
    return WorkerSpec(
        id=WorkerId("w"), endpoint=EndpointId("e"), name="e-1", command=("run",), env=env or {}, ping_s=ping_s
    )


def test_both_packages_are_told_where_to_ask_in_the_words_that_they_complete() -> None:
    vault = Vault(InlineSqliteStore(), keyring.fresh())
    env = environ_of(spec(), vault)
    for package in ("RUNPOD", "NOVITA"):
        assert env[f"{package}_POD_ID"] == "w"
        assert env[f"{package}_PING_INTERVAL"] == "10000"
        assert env[f"{package}_AI_API_KEY"] == f"Bearer {vault.worker_token(WorkerId('w'))}"
        take = env[f"{package}_WEBHOOK_GET_JOB"].replace("$ID", "w") + "&job_in_progress=0"
        assert take == "http://s:1/novita/pull/v2/e/job-take/w?v=2&job_in_progress=0"
        done = env[f"{package}_WEBHOOK_POST_OUTPUT"].replace(f"${package}_POD_ID", "w").replace("$ID", "j")
        assert done == "http://s:1/novita/pull/v2/e/job-done/w/j?v=2"


def test_an_owner_may_say_otherwise_what_is_not_the_protocol_s() -> None:
    vault = Vault(InlineSqliteStore(), keyring.fresh())
    mine = {"RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "false", "RUNPOD_POD_ID": "x", "A": "b"}
    env = environ_of(spec(mine), vault)
    assert (env["RUNPOD_SKIP_AUTO_SYSTEM_CHECKS"], env["RUNPOD_POD_ID"], env["A"]) == ("false", "w", "b")


def test_workers_that_are_sent_tasks_are_told_nothing() -> None:
    assert environ_of(spec({"A": "b"}, ping_s=None), Vault(InlineSqliteStore(), keyring.fresh())) == {"A": "b"}


def test_a_token_is_one_worker_s_and_the_same_for_every_control_under_the_same_master_key() -> None:
    ring = keyring.fresh()
    vault, other = Vault(InlineSqliteStore(), ring), Vault(InlineSqliteStore(), keyring.fresh())
    one, two = WorkerId("one"), WorkerId("two")
    token = vault.worker_token(one)
    assert vault.worker_token(one) == token
    assert vault.is_of_worker(token, one)
    assert not vault.is_of_worker(token, two)
    assert not other.is_of_worker(token, one)
    assert not vault.is_of_worker("\ud800", one)
    ring.renew()
    ring.forget_old()
    assert vault.is_of_worker(token, one), "until this process ends"
    assert vault.worker_token(one) != token
