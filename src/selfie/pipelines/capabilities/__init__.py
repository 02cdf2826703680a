from selfie.pipelines.capabilities.pipeline import TESTS, create_pipeline

__all__ = ["TESTS", "create_pipeline"]
