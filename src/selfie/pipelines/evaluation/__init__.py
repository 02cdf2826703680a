from selfie.pipelines.evaluation.pipeline import create_audit, create_pipeline

__all__ = ["create_audit", "create_pipeline"]
