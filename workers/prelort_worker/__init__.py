"""The PyTorch/PEFT worker of prelort. Started as `python -m prelort_worker` by its controller."""
