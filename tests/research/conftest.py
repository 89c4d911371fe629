from tests.models_made import one_thread

__all__ = ["one_thread"]
