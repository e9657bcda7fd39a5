"""The PyTorch/PEFT worker of prelort. Its controller starts it with `python workers/run.py prelort_worker.__main__`."""
