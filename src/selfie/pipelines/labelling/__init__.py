from selfie.pipelines.labelling.pipeline import create_pipeline

__all__ = ["create_pipeline"]
