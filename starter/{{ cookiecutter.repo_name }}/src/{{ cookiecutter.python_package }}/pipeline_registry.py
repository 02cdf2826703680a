"""The project's pipelines: selfie's, and those that you add."""

from kedro.pipeline import Pipeline

from selfie import pipeline_registry


def register_pipelines() -> dict[str, Pipeline]:
    """By name, for ``kedro run --pipelines NAME``."""
    return pipeline_registry.register_pipelines()
