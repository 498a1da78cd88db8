"""Yotta's JSON as types, one file for each noun. Pure."""
