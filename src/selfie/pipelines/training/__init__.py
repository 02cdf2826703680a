from selfie.pipelines.training.pipeline import create_pipeline, create_replay

__all__ = ["create_pipeline", "create_replay"]
