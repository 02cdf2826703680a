from selfie.pipelines.evaluation.pipeline import (
    create_audit,
    create_external_evaluation,
    create_leaderboard,
    create_mt_bench,
    create_pipeline,
)

__all__ = ["create_audit", "create_external_evaluation", "create_leaderboard", "create_mt_bench", "create_pipeline"]
