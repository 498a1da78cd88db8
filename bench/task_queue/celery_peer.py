"""Celery with Redis, in the peers' own environment. `python celery_peer.py N` submits N tasks and waits for the end of
the last; the environment says where Redis and the worker are. As shipped: nothing but addresses is set.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.client import HTTPConnection

import redis
from celery import Celery

BROKER = os.environ["BENCH_REDIS"]
HOST, PORT = "127.0.0.1", int(os.environ["BENCH_WORKER_PORT"])
app = Celery("celery_peer", broker=f"{BROKER}/0", backend=f"{BROKER}/1")
_local = threading.local()


@app.task
def post(number: int) -> int:
    """One POST, on a connection that is kept."""
    connection: HTTPConnection | None = getattr(_local, "connection", None)
    if connection is None:
        connection = _local.connection = HTTPConnection(HOST, PORT)
    connection.request("POST", "/", body=b'{"n":%d}' % number, headers={"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def main(count: int) -> None:
    """Submit, wait, print wall and CPU seconds."""
    results = redis.Redis.from_url(f"{BROKER}/1")
    results.flushdb()
    began, cpu = time.perf_counter(), time.process_time()
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            post.apply_async((number,), producer=producer)
    submitted = time.perf_counter()
    while results.dbsize() < count:
        time.sleep(0.02)
    found = {
        "wall_s": time.perf_counter() - began,
        "submit_s": submitted - began,
        "cpu_s": time.process_time() - cpu,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
