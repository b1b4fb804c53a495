"""The benchmark: Caesura and its peers at the same work, in one run. ``python -m tests.bench --help`` says how."""
