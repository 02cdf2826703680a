from selfie.pipelines.generation.pipeline import create_pipeline, create_split

__all__ = ["create_pipeline", "create_split"]
