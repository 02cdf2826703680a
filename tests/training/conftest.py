"""One training on a tiny model, and how it ends if nothing happens."""

import pytest
from test_checkpointing import run
from test_trainer import make_pairs

from selfie.models.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(15)


@pytest.fixture(scope="module")
def uninterrupted(tiny_checkpoint: Checkpoint, pairs, tmp_path_factory):
    return run(tiny_checkpoint, pairs, tmp_path_factory.mktemp("uninterrupted"))
