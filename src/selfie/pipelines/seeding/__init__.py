from selfie.pipelines.seeding.pipeline import create_labelling, create_pipeline, create_reward_training

__all__ = ["create_labelling", "create_pipeline", "create_reward_training"]
