"""A judge's endpoint for the tests of this folder."""

from judge_fixtures import endpoint, judge, prompts, server

__all__ = ["endpoint", "judge", "prompts", "server"]
