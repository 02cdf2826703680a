"""Kedro's settings: selfie's own, but conf/ says only what differs from selfie's."""

from selfie.config.packaged import PackagedConfigLoader
from selfie.settings import *  # noqa: F403

CONFIG_LOADER_CLASS = PackagedConfigLoader
