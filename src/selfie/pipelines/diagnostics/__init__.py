from selfie.pipelines.diagnostics.pipeline import create_baseline, create_iteration, create_seeding

__all__ = ["create_baseline", "create_iteration", "create_seeding"]
