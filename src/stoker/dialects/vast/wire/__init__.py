"""Requests and answers as Vast.ai's clients write and read them. Pure."""
