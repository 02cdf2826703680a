from selfie.pipelines.seeding.pipeline import create_pipeline

__all__ = ["create_pipeline"]
