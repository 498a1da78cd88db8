"""The native API's JSON as types, one file per noun: requests become domain values, domain values become answers."""
