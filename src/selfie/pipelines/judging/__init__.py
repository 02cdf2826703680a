from selfie.pipelines.judging.pipeline import create_pipeline, create_support

__all__ = ["create_pipeline", "create_support"]
