"""The language's supervised model: a tiny Llama, trained on the language's corpus with plain next-token prediction."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from selfie.models.chat_template import render
from selfie.models.checkpoint import Checkpoint
from selfie.scoring.log_probs import response_log_probs
from selfie.scoring.packed_rows import lay_out, stack
from selfie.synthetic.language import make_tokenizer

HIDDEN, LAYERS, HEADS = 96, 3, 4
BATCH, LEARNING_RATE = 64, 3e-3


def model_config() -> LlamaConfig:
    """The supervised model's shape."""
    tokenizer = make_tokenizer()
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def pretrain(corpus: list[tuple[str, str]], seed: int, folder: Path) -> Checkpoint:
    """Trains on (prompt, response) pairs, one epoch, and saves model and tokenizer into ``folder``."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = LlamaForCausalLM(model_config())
    prompts = [render(tokenizer, [{"role": "user", "content": prompt}]) for prompt, _ in corpus]
    responses = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for _, text in corpus]
    steps = len(corpus) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        batch = slice(step * BATCH, (step + 1) * BATCH)
        rows = stack(lay_out(prompts[batch], responses[batch], sharing=False), False, torch.device("cpu"))
        log_probs, _ = response_log_probs(model, rows)
        (-log_probs.sum() / len(rows.tokens)).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(str(folder))
