from selfie.pipelines.generation.pipeline import create_pipeline, create_split, create_support

__all__ = ["create_pipeline", "create_split", "create_support"]
