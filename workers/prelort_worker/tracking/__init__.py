"""Delivers a run's params, metrics and state to a tracker such as MLflow, once and not twice; no run waits for it."""
