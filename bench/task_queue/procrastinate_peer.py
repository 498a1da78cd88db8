"""Procrastinate with PostgreSQL, in the peers' own environment: `python procrastinate_peer.py worker` runs tasks,
`python procrastinate_peer.py N` submits N of them and waits for the end of the last. As shipped: nothing but addresses
and the number of tasks at once is set.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import aiohttp
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException

BATCH = 1_000
SLOTS = 8
URL = f"http://127.0.0.1:{os.environ['BENCH_WORKER_PORT']}/"
app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"]))
_sessions: list[aiohttp.ClientSession] = []


@app.task(name="post")
async def post(number: int) -> int:
    """One POST, on connections that are kept."""
    if not _sessions:
        _sessions.append(aiohttp.ClientSession())
    async with _sessions[0].post(URL, data=b'{"n":%d}' % number) as answer:
        await answer.read()
        return answer.status


async def work() -> None:
    """Run tasks until the end."""
    async with app.open_async():
        try:
            await app.schema_manager.apply_schema_async()
        except ConnectorException as exc:
            sys.stderr.write(f"the schema is there already: {exc}\n")
        await app.run_worker_async(concurrency=SLOTS)


async def submit(count: int) -> None:
    """Submit, wait, print wall and CPU seconds."""
    async with app.open_async():
        done = await _succeeded()
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, count, BATCH):
            some = range(start, min(start + BATCH, count))
            await post.batch_defer_async(*({"number": number} for number in some))
        submitted = time.perf_counter()
        # As the others are asked: nobody tells.
        while await _succeeded() < done + count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        found = {
            "wall_s": time.perf_counter() - began,
            "submit_s": submitted - began,
            "cpu_s": time.process_time() - cpu,
        }
    sys.stdout.write(json.dumps(found) + "\n")


async def _succeeded() -> int:
    query = "SELECT count(*) AS count FROM procrastinate_jobs WHERE status = 'succeeded'"
    return int((await app.connector.execute_query_one_async(query))["count"])


if __name__ == "__main__":
    asyncio.run(work() if sys.argv[1] == "worker" else submit(int(sys.argv[1])))
