"""The Modelfile says in Ollama's language what the chat template says, or leaves it out."""

from selfie.export.modelfile import modelfile, read_turns

EXPECTED = '''FROM ./tiny.gguf
TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system
{{ .Content }}<|im_end|>
{{ end }}{{ if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ end }}{{ if eq .Role "assistant" }}<|im_start|>assistant
{{ .Content }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
"""
SYSTEM """You are helpful"""
PARAMETER stop "<|endoftext|>"
PARAMETER stop "<|im_end|>"
'''


def test_chatml_with_a_system_turn_of_its_own(bpe_tokenizer):
    assert modelfile(bpe_tokenizer, [0, 2], "tiny.gguf") == EXPECTED


def test_what_it_writes_is_what_the_template_writes(bpe_tokenizer):
    turns = read_turns(bpe_tokenizer)
    conversation = [
        {"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))
    ]
    for messages in (conversation, [{"role": "system", "content": "d"}, *conversation]):
        wanted = bpe_tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert turns.write(messages) == wanted


def test_a_template_that_counts_turns_is_left_to_ollama(bpe_tokenizer, monkeypatch):
    counting = "{% for m in messages %}{{ loop.index }} {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    monkeypatch.setattr(bpe_tokenizer, "chat_template", counting)
    text = modelfile(bpe_tokenizer, [2], "tiny.gguf")
    assert "TEMPLATE" not in text
    assert text.splitlines()[1].startswith("# The chat template is not a plain sequence of turns")


def test_braces_in_a_template_are_not_written_into_ollamas(bpe_tokenizer, monkeypatch):
    braces = "{% for m in messages %}{{ '{{' + m['role'] + '}}' + m['content'] }}{% endfor %}>"
    monkeypatch.setattr(bpe_tokenizer, "chat_template", braces)
    assert read_turns(bpe_tokenizer) is None
