"""Each headline figure has a script here, side by side with a peer in one run: `python -m benchmarks.<name>`."""
