"""Stoker keeps GPUs fed: elastic inference endpoints on machines of your own."""

__version__ = "0.1.0"
