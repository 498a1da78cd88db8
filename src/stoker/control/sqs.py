"""Asks a queue of SQS how many messages it has, signed as AWS has it (Signature Version 4). Called by `triggering`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from stoker.domain.addresses import UrlRules
from stoker.domain.endpoint import ProjectId
from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.triggers import SqsQueue
from stoker.net import GuardedSession

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
ALGORITHM = "AWS4-HMAC-SHA256"
_TARGET = "AmazonSQS.GetQueueAttributes"
_CONTENT = "application/x-amz-json-1.0"
_VISIBLE = "ApproximateNumberOfMessages"
_IN_FLIGHT = "ApproximateNumberOfMessagesNotVisible"
_DELAYED = "ApproximateNumberOfMessagesDelayed"


class _Login(msgspec.Struct):
    aws_access_key_id: str
    aws_secret_access_key: str


class _Attributes(msgspec.Struct):
    Attributes: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed. `path` is as it is sent; there is no query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


def authorization(request: Request, *, id: str, secret: str, region: str, service: str, at: str) -> str:
    """The value of `Authorization`. `at` is the time as in `x-amz-date`, which is among the headers."""
    headers = {name.lower(): value.strip() for name, value in sorted(request.headers.items(), key=_lower)}
    names = ";".join(headers)
    canonical = "\n".join(
        (
            request.method,
            request.path or "/",
            "",
            *(f"{name}:{value}" for name, value in headers.items()),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((ALGORITHM, at, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in (at[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return f"{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"


def _lower(pair: tuple[str, str]) -> str:
    return pair[0].lower()


class SqsQueues:
    """`messages` asks. `close` it at the end."""

    def __init__(
        self,
        rules: UrlRules,
        secret: Callable[[ProjectId, str], Awaitable[str]],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._session = GuardedSession(rules)
        self._secret = secret
        self._clock = clock

    async def messages(self, queue: SqsQueue, project: ProjectId) -> int:
        """How many messages count. Raises `StokerError`, saying why nobody knows."""
        try:
            login = msgspec.json.decode(await self._secret(project, queue.secret), type=_Login)
        except msgspec.DecodeError as exc:
            raise Invalid(f"the secret {queue.secret!r} is no access key of AWS") from exc
        wanted = [_VISIBLE, *([_IN_FLIGHT] if queue.in_flight else []), *([_DELAYED] if queue.delayed else [])]
        body = msgspec.json.encode({"QueueUrl": queue.url, "AttributeNames": wanted})
        url = urlsplit(queue.endpoint)
        at = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {"Content-Type": _CONTENT, "Host": url.netloc, "X-Amz-Date": at, "X-Amz-Target": _TARGET}
        signed = authorization(
            Request("POST", url.path or "/", headers, body),
            id=login.aws_access_key_id,
            secret=login.aws_secret_access_key,
            region=queue.region,
            service="sqs",
            at=at,
        )
        asked = self._session.request(
            "POST",
            queue.endpoint,
            headers={**headers, "Authorization": signed},
            body=body,
            timeout_s=TIMEOUT_S,
            redirects_max=0,
        )
        async with asked as answer:
            text = await answer.body(bytes_max=ANSWER_BYTES_MAX)
            if answer.status != 200:
                raise Unavailable(f"the queue answered {answer.status}: {text[:200].decode('utf-8', 'replace')}")
        return _counted(text, wanted)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._session.close()


def _counted(text: bytes, wanted: list[str]) -> int:
    try:
        attributes = msgspec.json.decode(text, type=_Attributes).Attributes
        return sum(int(attributes[name]) for name in wanted)
    except (msgspec.DecodeError, KeyError, ValueError) as exc:
        raise Unavailable("the queue's answer does not say how many messages it has") from exc
