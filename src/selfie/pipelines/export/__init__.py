from selfie.pipelines.export.pipeline import create_pipeline, create_push

__all__ = ["create_pipeline", "create_push"]
