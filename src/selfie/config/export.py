"""Parameters of the pipeline ``export``."""

from typing import Annotated, Literal

from pydantic import Field

from selfie.config.strict import NO_EFFECT, StrictModel


class ExportParameters(StrictModel):
    """What is exported, and in which form."""

    policy: Annotated[str, Field(pattern=r"^policy_\d+$")] | None = None
    """``policy_0``, ``policy_1`` …; null: the last one of the experiment."""
    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    """Of the weights in safetensors. ``float32``: as they were trained."""
    extrapolation: Annotated[float, Field(ge=0)] = 0.0
    """ε of ExPO (arXiv 2404.16792): the weights are θ_k + ε(θ_k − θ_0), with those of the initial model as θ_0. 0: the
    policy as it was trained and measured."""
    gguf: Literal["f16", "f32", "q8_0"] | None = None
    """Also writes a GGUF file of this type, for llama.cpp and Ollama, and a ``Modelfile``; takes the extra ``gguf``."""
    base_model: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    """The initial model's repository on the Hugging Face hub, for the model card. null: known only if it came from
    there."""
    push_to_hub: Annotated[Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None, NO_EFFECT] = None
    """``OWNER/NAME``: the export is also uploaded to this repository on the Hugging Face hub, made private if
    it is not there. Takes a token: ``hub`` in ``credentials.yml``, by default ``HF_TOKEN``."""
    license: Annotated[str, Field(pattern=r"^[a-z0-9.-]+$")] | None = None
    """The hub's identifier, such as ``apache-2.0``. null: the one in the initial model's own card, if it has one."""
