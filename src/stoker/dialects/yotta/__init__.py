"""Yotta's Elastic Deployment, API v2, as its own clients speak it. Imports nothing heavy: all faces find it."""

from __future__ import annotations

from stoker.dialects.yotta.webhooks import WEBHOOKS
from stoker.web import Dialect

DIALECT = Dialect(name="yotta", face="stoker.dialects.yotta.face:make", hosts=("api.yottalabs.ai",), webhooks=WEBHOOKS)
