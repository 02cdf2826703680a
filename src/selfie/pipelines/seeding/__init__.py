from selfie.pipelines.seeding.pipeline import create_labelling, create_pipeline

__all__ = ["create_labelling", "create_pipeline"]
