from tests.predict.conftest import asking, run

__all__ = ["asking", "run"]
