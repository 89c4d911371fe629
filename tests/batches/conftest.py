import pytest

from nngpt_ext.batches.encode import Example
from tests import models_made
from tests.models_made import one_thread

from .asked import encoded

__all__ = ["one_thread"]


@pytest.fixture
def group() -> list[Example]:
    return encoded(models_made.base("llama"), "AlexNet", 3)
