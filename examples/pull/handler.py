"""A worker that asks for tasks itself: RunPod's package and one function. `pip install runpod`, then see endpoint.yaml.

With `pip install novita-gpus` it is `import novita_gpus` and `novita_gpus.start({"handler": handler})`.
"""

import runpod


def handler(job):
    """`job["input"]` is the task's input, `job["id"]` its id; `job["attempt"]` counts from 1."""
    return {"shouted": job["input"]["text"].upper()}


runpod.serverless.start({"handler": handler})
