"""Novita's serverless GPUs: the protocol of workers that ask for jobs, which RunPod's speak as well. Imports nothing
heavy: all faces find it.
"""

from __future__ import annotations

from stoker.web import Dialect

DIALECT = Dialect(name="novita", face="stoker.dialects.novita.face:make")
