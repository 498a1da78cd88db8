"""Asking a queue of SQS: signed as AWS publishes it, counted as it is asked for, and what goes wrong told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from stoker.control.sqs import Request, SqsQueues, authorization
from stoker.domain.addresses import UrlRules
from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import StokerError
from stoker.domain.triggers import SqsQueue

LOGIN = json.dumps({"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "hidden"})
COUNTS = {
    "ApproximateNumberOfMessages": "3",
    "ApproximateNumberOfMessagesNotVisible": "4",
    "ApproximateNumberOfMessagesDelayed": "50",
}


def test_a_signature_is_that_of_awss_published_example() -> None:
    at = "20150830T123600Z"
    made = authorization(
        Request("GET", "/", {"Host": "example.amazonaws.com", "X-Amz-Date": at}),
        id="AKIDEXAMPLE",
        secret="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        service="service",
        at=at,
    )
    assert made == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )


class Site:
    """A queue on loopback, and what it was asked."""

    def __init__(self) -> None:
        self.status, self.text = 200, ""
        self.asked: list[tuple[dict[str, str], Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append((dict(request.headers), body))
        chosen = {name: COUNTS[name] for name in body["AttributeNames"]}
        return web.Response(status=self.status, text=self.text or json.dumps({"Attributes": chosen}))


def play(body: Callable[[Site, SqsQueues, SqsQueue], Awaitable[None]], secret: str = LOGIN) -> None:
    async def known(_project: ProjectId, _name: str) -> str:
        return secret

    async def main() -> None:
        site, application = Site(), web.Application()
        application.router.add_post("/", site.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        queues = SqsQueues(UrlRules.parse(["127.0.0.0/8"]), known, clock=lambda: 1_440_938_160.0)
        queue = SqsQueue(
            url="https://sqs.test/1/q", endpoint=f"http://127.0.0.1:{port}", region="eu", secret="aws", messages=1
        )
        try:
            await body(site, queues, queue)
        finally:
            await queues.close()
            await runner.cleanup()

    asyncio.run(main())


def test_messages_are_counted_as_asked_for() -> None:
    async def main(site: Site, queues: SqsQueues, queue: SqsQueue) -> None:
        assert await queues.messages(queue, ProjectId(1)) == 3
        assert await queues.messages(replace(queue, in_flight=True), ProjectId(1)) == 7
        assert await queues.messages(replace(queue, in_flight=True, delayed=True), ProjectId(1)) == 57
        headers, body = site.asked[0]
        assert body["QueueUrl"] == "https://sqs.test/1/q"
        assert headers["X-Amz-Target"] == "AmazonSQS.GetQueueAttributes"
        assert headers["X-Amz-Date"] == "20150830T123600Z"
        scope = "AKIDEXAMPLE/20150830/eu/sqs/aws4_request"
        assert headers["Authorization"].startswith(
            f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=content-type;host"
        )

    play(main)


@pytest.mark.parametrize(
    ("status", "text", "told"),
    [
        (403, '{"__type":"AccessDenied"}', "answered 403"),
        (200, "no JSON", "does not say how many"),
        (200, '{"Attributes": {}}', "does not say how many"),
        (200, '{"Attributes": {"ApproximateNumberOfMessages": "many"}}', "does not say how many"),
    ],
)
def test_what_goes_wrong_is_told(status: int, text: str, told: str) -> None:
    async def main(site: Site, queues: SqsQueues, queue: SqsQueue) -> None:
        site.status, site.text = status, text
        with pytest.raises(StokerError, match=told):
            await queues.messages(queue, ProjectId(1))

    play(main)


def test_a_secret_of_another_kind_is_told_and_not_shown() -> None:
    async def main(_site: Site, queues: SqsQueues, queue: SqsQueue) -> None:
        with pytest.raises(StokerError, match="'aws' is no access key") as refused:
            await queues.messages(queue, ProjectId(1))
        assert "hidden" not in str(refused.value)

    play(main, secret="hidden")


def test_addresses_that_the_rules_refuse_are_not_asked() -> None:
    async def known(_project: ProjectId, _name: str) -> str:
        return LOGIN

    async def main() -> None:
        queues = SqsQueues(UrlRules.parse([]), known, clock=lambda: 0.0)
        queue = SqsQueue(url="u", endpoint="http://127.0.0.1:1", region="eu", secret="aws", messages=1)
        try:
            with pytest.raises(StokerError, match="not a public address"):
                await queues.messages(queue, ProjectId(1))
        finally:
            await queues.close()

    asyncio.run(main())
