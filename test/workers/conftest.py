"""Shared by the tests: tiny models and data, written once, and one torch thread as a worker has."""

import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import HealthCheck, settings
from tiny import write_all

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
torch.set_num_threads(1)

# Property tests draw the same cases in every `npm test`; `npm run fuzz` draws others, and more of them. They have no
# time limit, since a slow machine must not fail them.
settings.register_profile("fixed", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("fuzz", settings.get_profile("fixed"), derandomize=False, database=None, max_examples=1000)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_all(folder)
    return folder
