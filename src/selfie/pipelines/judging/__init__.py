from selfie.pipelines.judging.pipeline import create_pipeline

__all__ = ["create_pipeline"]
