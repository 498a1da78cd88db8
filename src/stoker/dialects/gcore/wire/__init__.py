"""Requests and answers of Gcore's API, one file for each noun."""
