"""Looking at endpoints, and changing those that exist."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import pytest


class Ran(Protocol):
    code: int
    out: str
    err: str
