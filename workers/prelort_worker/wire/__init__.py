"""The wire contract (src/protocol/README.md) and this worker's end of it. Knows nothing of models or data."""
