"""The folder with a GGUF file beside the safetensors."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from selfie.config.export import ExportParameters
from selfie.export.folder import write_folder
from selfie.models.checkpoint import Checkpoint


def test_both_forms_hold_the_same_weights(smollm: Checkpoint, tmp_path: Path):
    """The GGUF file is written from float32, whatever the safetensors' dtype."""
    pytest.importorskip("gguf", reason="needs the extra `gguf`")
    export = ExportParameters(dtype="bfloat16", gguf="f32")
    folder = Path(write_folder(smollm, smollm, "# card", "tiny-policy_1", export, tmp_path / "model").source)
    assert (folder / "Modelfile").read_text().startswith("FROM ./tiny-policy_1-f32.gguf\nTEMPLATE")
    weights = smollm.load_model(torch.float32).state_dict()
    rounded = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    exact = AutoModelForCausalLM.from_pretrained(folder, gguf_file="tiny-policy_1-f32.gguf").state_dict()
    for name, weight in weights.items():
        assert torch.equal(exact[name], weight)
        assert torch.equal(rounded[name], weight.bfloat16())
    assert (folder / "README.md").read_text() == "# card"
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1  # another user can read the weights too
