"""Stops where the project's package would hide an installed one, selfie's own above all."""

import sys
from importlib.util import find_spec

NAME = "{{ cookiecutter.python_package }}"

if find_spec(NAME):
    sys.exit(f"The package {NAME} is installed, and the project's of that name would hide it: choose another name.")
