"""Secrets stay out of what is written: URLs lose their user and password, known secrets their values.

A secret is the value of an environment variable whose name says so, as every tool that takes tokens names them.
"""

import logging
import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

MASK = "***"
SHORTEST_SECRET = 8  # shorter ones would blot out ordinary words
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|CREDENTIAL|PRIVATE_?KEY", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s@]*(?:@[^/?#\s@]+)*@")  # a password may hold an @


def redact(text: str) -> str:
    """The text without passwords in URLs and without the values of secret environment variables."""
    text = _USER_INFO.sub(f"{MASK}@", text)
    for name, value in os.environ.items():
        if len(value) >= SHORTEST_SECRET and _SECRET_NAME.search(name) and value in text:
            text = text.replace(value, MASK)
    return text


class RedactingFilter(logging.Filter):
    """Redacts every record of the handler that it is put on."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets all through."""
        record.msg, record.args = redact(record.getMessage()), ()
        return True


def redact_logs() -> None:
    """Puts the filter on the root logger's handlers; Kedro takes no class of a project's into ``logging.yml``."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(present, RedactingFilter) for present in handler.filters):
            handler.addFilter(RedactingFilter())


def move_credentials(uri: str, user_variable: str, password_variable: str) -> str:
    """A URL without its user and password, which go to the environment variables where its client looks for them."""
    parts = urlsplit(uri)
    if not parts.scheme.startswith("http") or parts.password is None:
        return uri
    os.environ[user_variable], os.environ[password_variable] = unquote(parts.username or ""), unquote(parts.password)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
