"""Errors that a user can act on: what is wrong, where, and what to do about it."""

import click

from selfie.errors.redaction import redact


class UserError(click.ClickException):
    """Something the user can mend. Kedro's command line prints the message alone, without a traceback.

    Secrets are taken out of it: errors name URLs, and go to the log and to MLflow.
    """

    exit_code = 2

    def __init__(self, where: str, problem: str, remedy: str):
        where, problem, remedy = map(redact, (where, problem, remedy))
        super().__init__(f"{where}: {problem}\n  → {remedy}")
        self.where, self.problem, self.remedy = where, problem, remedy

    def __reduce__(self):
        return type(self), (self.where, self.problem, self.remedy)


class DataError(UserError):
    """A row of a user's file that can't be used; ``where`` names file and row."""


class ModelError(UserError):
    """A model that can't be used; ``where`` names its folder or repository."""


class ConfigurationError(UserError):
    """A parameter or setting out of its range; ``where`` names it."""


class StorageError(UserError):
    """A disk that is full or can't be written; ``where`` names the file."""

    exit_code = 3


class AlreadyRunningError(UserError):
    """Another run works on the same experiment; ``where`` names the experiment's lock."""

    exit_code = 4


class DivergenceError(UserError):
    """A training whose loss or gradient is not finite; ``where`` names the step and the pairs."""

    exit_code = 5


class MemoryExhaustedError(UserError):
    """Not even one row fits."""

    exit_code = 6


class EngineError(UserError):
    """The engine's process died or fell silent."""

    exit_code = 7
