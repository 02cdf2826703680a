"""The exported folder on the Hugging Face hub: whether the token may write there, and the upload."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from pydantic import SecretStr

from selfie.errors import ConfigurationError, ModelError
from selfie.storage.commit import MANIFEST

PARAMETER = "export.push_to_hub"
WRITE, FINE_GRAINED, WRITERS = "repo.write", "fineGrained", ("admin", "write", "contributor")
TOKENS = "https://huggingface.co/settings/tokens"
GIVE_TOKEN = f"make a token with write permission ({TOKENS}), and give it as HF_TOKEN or in conf/local/credentials.yml"
WEIGHTS = ["*.safetensors", "*.safetensors.index.json", "*.gguf", "Modelfile"]
"""Of an earlier push: an old file of weights beside new ones would be the one that is loaded."""
NOT_OURS = {".gitattributes", "README.md"}  # what the hub puts into a new repository
DETAIL_CHARACTERS = 300
NO_ANSWER = (httpx2.HTTPError, OSError)
NO_UPLOAD = (*NO_ANSWER, RuntimeError, ValueError)  # also of hf_xet, and of a model card that the hub refuses


def check_hub(repository: str, token: SecretStr) -> None:
    """Asks the hub who the token is and what the repository holds; nothing is written.

    Args:
        repository: ``owner/name``.
        token: an empty one is none.

    Raises:
        ConfigurationError: the name is none of the hub's; there is no token, or it is not valid, or it may not write to
            the owner's repositories.
        ModelError: the hub can't be reached, or the repository holds something that no export has written.
    """
    if not token.get_secret_value():
        raise ConfigurationError(PARAMETER, "pushing to the hub needs a token, and there is none", GIVE_TOKEN)
    api = HfApi(token=token.get_secret_value())
    try:
        validate_repo_id(repository)
        _check_permission(repository, api.whoami())
        files = {file.rfilename for file in api.model_info(repository).siblings or []}
    except HFValidationError as error:
        raise ConfigurationError(PARAMETER, str(error), "write OWNER/NAME") from error
    except RepositoryNotFoundError:  # it will be made
        return
    except NO_ANSWER as error:
        raise _explained(repository, token, error) from error
    if files - NOT_OURS and MANIFEST not in files:
        problem = f"the repository holds something that is no earlier export ({min(files - NOT_OURS)} …)"
        raise ModelError(repository, problem, f"name another repository as {PARAMETER}, or empty this one")


def push(folder: Path, repository: str, token: SecretStr) -> dict[str, str]:
    """Uploads the folder as one model; a repository that is not there is made, private.

    Args:
        folder: the exported one, which stays as it is.
        repository: ``owner/name``; what an earlier push left there is kept in its history.
        token: with write permission.

    Returns:
        ``repository``, ``commit`` and ``url``.

    Raises:
        ConfigurationError: the hub denies access.
        ModelError: it can't be reached, or refuses the files.
    """
    api = HfApi(token=token.get_secret_value())
    try:
        url = api.create_repo(repository, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            delete_patterns=WEIGHTS,
            commit_message=f"Export of {folder.name} by selfie",
        )
    except NO_UPLOAD as error:
        raise _explained(repository, token, error) from error
    return {"repository": repository, "commit": commit.oid, "url": str(url)}


def _check_permission(repository: str, known: Mapping[str, Any]) -> None:
    owner, _, name = repository.partition("/")
    organisations = {item["name"]: item.get("roleInOrg") for item in known.get("orgs", [])}
    if owner != known["name"] and owner not in organisations:
        problem = f"the token is {known['name']}'s, who is no member of {owner}"
        names = ", ".join([known["name"], *organisations])
        raise ConfigurationError(PARAMETER, problem, f"name a repository of one of {names}, or give another token")
    role = organisations.get(owner, "admin")
    if role not in (None, *WRITERS):
        problem = f"{known['name']} may only {role} in {owner}"
        raise ConfigurationError(PARAMETER, problem, f"ask an admin of {owner} for the role contributor or write")
    access = (known.get("auth") or {}).get("accessToken") or {}
    if access.get("role") == FINE_GRAINED:
        scopes = (access.get("fineGrained") or {}).get("scoped", [])
        writable = {scope["entity"].get("name") for scope in scopes if WRITE in scope.get("permissions", [])}
        if writable.isdisjoint({owner, repository, name}):
            problem = f"the token is fine-grained and may not write to repositories of {owner}"
            remedy = f"add 'Write access to contents/settings of all repos' of {owner} to it at {TOKENS}"
            raise ConfigurationError(PARAMETER, problem, remedy)
    elif access.get("role") == "read":
        raise ConfigurationError(PARAMETER, "the token may only read", GIVE_TOKEN)


def _explained(repository: str, token: SecretStr, error: Exception) -> ConfigurationError | ModelError:
    """What the hub said, or that it said nothing, without the token."""
    said = " ".join(str(error).replace(token.get_secret_value(), "***").split())[:DETAIL_CHARACTERS]
    again = "run the same command again: what was exported stays, and only the upload is repeated"
    if isinstance(error, OfflineModeIsEnabled):
        return ModelError(repository, "HF_HUB_OFFLINE forbids the network", f"unset it, or set {PARAMETER} to null")
    if isinstance(error, HfHubHTTPError) and error.response.status_code == HTTPStatus.UNAUTHORIZED:
        return ConfigurationError(PARAMETER, f"the hub does not know the token: {said}", GIVE_TOKEN)
    if isinstance(error, HfHubHTTPError) and error.response.status_code == HTTPStatus.FORBIDDEN:
        return ConfigurationError(PARAMETER, f"the token may not write to {repository}: {said}", GIVE_TOKEN)
    if isinstance(error, HfHubHTTPError):
        return ModelError(repository, f"the hub refused it ({error.response.status_code}): {said}", again)
    what = "the hub can't be reached" if isinstance(error, NO_ANSWER) else "the upload failed"
    return ModelError(repository, f"{what} ({type(error).__name__}: {said})", again)
