from selfie.pipelines.evaluation.pipeline import (
    create_audit,
    create_leaderboard,
    create_mt_bench,
    create_pipeline,
    create_stranger,
)

__all__ = ["create_audit", "create_leaderboard", "create_mt_bench", "create_pipeline", "create_stranger"]
