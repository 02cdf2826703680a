"""The table of bad and hostile inputs: what makes each, and what the error must say."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
import torch

from selfie.synthetic.language import all_prompts
from user_place import Place

SEEDS, PROMPTS, EVALUATION = "seed_preferences.jsonl", "prompts.jsonl", "evaluation_prompts.jsonl"
PROMPT = all_prompts()[0]
PAIR = {"prompt": PROMPT, "chosen": "w00 w01", "rejected": "w02 w03"}


class Bad(NamedTuple):
    """One bad input: what makes it, and words of where, what and what to do."""

    make: Callable[[Place], Any]
    words: tuple[str, ...]
    parameters: Mapping[str, Any] = MappingProxyType({})
    environment: Mapping[str, str] = MappingProxyType({})


def bytes_in(content: bytes, name: str = SEEDS) -> Callable[[Place], Any]:
    """The file holds just that."""
    return lambda place: (place.raw / name).write_bytes(content)


def line(content: bytes | str, name: str = SEEDS) -> Callable[[Place], Any]:
    """The file's third line is that."""

    def make(place: Place) -> None:
        lines = (place.raw / name).read_bytes().split(b"\n")
        lines[2] = content if isinstance(content, bytes) else content.encode()
        (place.raw / name).write_bytes(b"\n".join(lines))

    return make


def row(**changes: Any) -> Callable[[Place], Any]:
    """The third seed pair is otherwise."""
    return line(json.dumps({**PAIR, **changes}))


def prompt(value: Any) -> Callable[[Place], Any]:
    """The third prompt is otherwise."""
    return line(json.dumps({"prompt": value}), PROMPTS)


def repeated(source: str, target: str) -> Callable[[Place], Any]:
    """A row's prompt comes again in the other file, hardly changed."""

    def make(place: Place) -> None:
        said = place.rows(source)[1]["prompt"]
        line(json.dumps({**place.rows(target)[2], "prompt": f"  {said.upper()}!"}), target)(place)

    return make


def as_file(suffix: str, write: Callable[[Path], Any]) -> Callable[[Place], Any]:
    """The seeds come in another format."""

    def make(place: Place) -> None:
        place.catalog("seed_preferences.jsonl", f"seed_preferences{suffix}")
        write(place.raw / f"seed_preferences{suffix}")

    return make


def cut_parquet(path: Path) -> None:
    pd.DataFrame([PAIR]).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])


def model_json(name: str, **changes: Any) -> Callable[[Place], Any]:
    """A configuration file of the model is otherwise; None takes a setting out."""

    def make(place: Place) -> None:
        settings = {**json.loads((place.model / name).read_text()), **changes}
        (place.model / name).write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))

    return make


def template(text: str) -> Callable[[Place], Any]:
    return lambda place: (place.model / "chat_template.jinja").write_text(text)


def pickled(place: Place, name: str = "pytorch_model.bin") -> None:
    torch.save({"weight": torch.zeros(2)}, place.model / name)


def only_pickled(place: Place) -> None:
    (place.model / "model.safetensors").unlink()
    pickled(place)


def cut_weights(place: Place) -> None:
    path = place.model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def link(source: str, target: str) -> Callable[[Place], Any]:
    """What lies at ``source`` moves to ``target``, and a symbolic link leads there."""

    def make(place: Place) -> None:
        (place.folder / target).parent.mkdir(parents=True, exist_ok=True)
        (place.folder / source).parent.mkdir(parents=True, exist_ok=True)
        if (place.folder / source).exists():
            (place.folder / source).rename(place.folder / target)
        else:
            (place.folder / target).mkdir()
        (place.folder / source).symlink_to(place.folder / target)

    return make


def configured(kind: str, text: str) -> Callable[[Place], Any]:
    return lambda place: place.configure(kind, text)


def globals_data(data: str) -> Callable[[Place], Any]:
    """``data`` in the environment's ``globals.yml``."""

    def make(place: Place) -> None:
        path = place.folder / "conf/mine/globals.yml"
        path.write_text(path.read_text().replace(f"data: {place.folder / 'data'}", f"data: {data}"))

    return make


def nothing(place: Place) -> None:
    """The bad input comes from the command line or the environment."""


USER, ASSISTANT, SYSTEM = ({"role": role, "content": PROMPT} for role in ("user", "assistant", "system"))
TURN = "{% for m in messages %}<user> {{ m['content'] }} {% endfor %}"
DATA = {
    "not UTF-8": Bad(line(b'{"prompt": "caf\xe9"}'), (SEEDS, "row 3", "it is not UTF-8", "save the file as UTF-8")),
    "UTF-16": Bad(bytes_in(json.dumps(PAIR).encode("utf-16")), (SEEDS, "row 1", "not UTF-8")),
    "broken JSON": Bad(line('{"prompt": "a", "chosen"'), ("row 3", "it is not JSON", "one JSON object a line")),
    "JSON nested 100,000 deep": Bad(line("[" * 100_000), ("row 3", "it is not JSON", "recursion")),
    "a number of 10,000 digits": Bad(line('{"prompt": ' + "9" * 10_000 + "}"), ("row 3", "it is not JSON")),
    "a list for an object": Bad(line('["a", "b"]'), ("row 3", "not a JSON object", 'write {"prompt": …} a line')),
    "a number for a prompt": Bad(row(prompt=3), ("row 3", "`prompt` is neither text nor a list of messages")),
    "an object for a prompt": Bad(row(prompt={"text": "a"}), ("row 3", "`prompt` is neither text nor a list")),
    "true for a response": Bad(row(chosen=True), ("row 3", "`chosen` is neither text nor a list")),
    "null for a response": Bad(row(rejected=None), ("row 3", "it has no `rejected`", "add `rejected`, or map it")),
    "null for a message": Bad(row(prompt=[None]), ("row 3", "`prompt` is neither text nor a list")),
    "null for a content": Bad(row(prompt=[{"role": "user", "content": None}]), ("row 3", "`prompt` is neither")),
    "null for a role": Bad(row(prompt=[{"role": None, "content": "a"}]), ("row 3", "`prompt` is neither")),
    "a lone surrogate": Bad(row(chosen="a \ud83d b"), ("row 3", "`chosen` holds half a character", "U+D83D")),
    "an escape sequence": Bad(row(prompt="\x1b[2Jhello"), ("row 3", "holds the control character U+001B", "remove it")),
    "a null character": Bad(row(rejected="w00\x00"), ("row 3", "`rejected` holds the control character U+0000")),
    "a row of 10 MB": Bad(row(chosen="w00 " * 2_621_440), ("row 3", "`chosen` has 10,485,760 characters", "shorten")),
    "an empty prompt": Bad(row(prompt=""), ("row 3", "`prompt` is empty", "fill it or remove the row")),
    "a response of white space": Bad(row(chosen=" \u2003\n\t"), ("row 3", "`chosen` is empty")),
    "a response of no width": Bad(row(chosen="\u200b\ufeff"), ("row 3", "`chosen` is empty")),
    "identical responses": Bad(row(chosen="w00", rejected="w00"), ("row 3", "chosen and rejected are identical")),
    "a contradiction": Bad(
        lambda place: (
            [line(json.dumps({**PAIR, **swap}))(place) for swap in ({},)]
            and (place.raw / SEEDS)
            .open("a")
            .write("\n" + json.dumps({**PAIR, "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}))
        ),
        ("row 3", "it contradicts row", "preferred the other way round", "keep one of the two rows, or neither"),
    ),
    "an unknown role": Bad(row(prompt=[{"role": "root", "content": "a"}]), ("row 3", "`prompt` is neither")),
    "a system turn in the middle": Bad(prompt([USER, SYSTEM, USER]), (PROMPTS, "row 3", "a system turn that is not")),
    "two user turns in a row": Bad(prompt([USER, USER]), (PROMPTS, "row 3", "alternate", "user, user")),
    "an assistant who begins": Bad(prompt([ASSISTANT, USER]), (PROMPTS, "row 3", "alternate", "assistant, user")),
    "a prompt that ends with the answer": Bad(
        prompt([USER, ASSISTANT]), ("row 3", "does not end with the user's turn")
    ),
    "a response that the user gives": Bad(row(chosen=[USER]), ("row 3", "does not end with the assistant's turn")),
    "a response to another prompt": Bad(
        row(chosen=[{"role": "user", "content": "else"}, ASSISTANT]), ("row 3", "answers another conversation")
    ),
    "an unknown finish reason": Bad(row(chosen_finish_reason="eos"), ("row 3", "`chosen_finish_reason` is 'eos'")),
    "a column that is not there": Bad(
        lambda place: place.catalog("preferences.jsonl\n", "preferences.jsonl\n  columns: {chosen: better}\n"),
        (SEEDS, "row 1", "it has no `chosen`", "map it under `columns:`"),
    ),
    "an empty file": Bad(bytes_in(b""), (SEEDS, "there are no rows", "add at least one")),
    "no file": Bad(lambda place: (place.raw / SEEDS).unlink(), (SEEDS, "the file does not exist", "create it")),
    "a folder for a file": Bad(
        lambda place: ((place.raw / SEEDS).unlink(), (place.raw / SEEDS).mkdir()), (SEEDS, "it can't be read")
    ),
    "a pickle for a file": Bad(as_file(".pkl", pd.DataFrame([PAIR]).to_pickle), ("the format '.pkl' is not known",)),
    "CSV with an open quote": Bad(
        as_file(".csv", lambda path: path.write_text('prompt,chosen,rejected\na,b,c\nd,"e,f\n')),
        ("row", "it is not CSV", "quote fields"),
    ),
    "CSV that is not UTF-8": Bad(
        as_file(".csv", lambda path: path.write_bytes(b"prompt,chosen,rejected\na,\xe4,c\n")), ("row 2", "not UTF-8")
    ),
    "text for Parquet": Bad(as_file(".parquet", lambda path: path.write_text("a,b")), ("it is not a Parquet file",)),
    "half a Parquet file": Bad(as_file(".parquet", cut_parquet), ("it is not a Parquet file", "write it again")),
    "an object for a list of rows": Bad(
        as_file(".json", lambda path: path.write_text(json.dumps(PAIR))), ("it is not a list of objects", ".jsonl")
    ),
    "a seed that repeats an evaluation prompt": Bad(
        repeated(EVALUATION, SEEDS), (SEEDS, "row 3", "nearly repeats row 2 of evaluation_prompts", "max_set_aside")
    ),
    "a prompt that repeats an evaluation prompt": Bad(
        repeated(EVALUATION, PROMPTS), (PROMPTS, "row 3", "nearly repeats row 2 of evaluation_prompts")
    ),
    "a prompt that repeats a seed": Bad(
        repeated(SEEDS, PROMPTS), (PROMPTS, "row 3", "nearly repeats row 2 of seed_preferences")
    ),
    "a seed prompt over the context": Bad(
        row(prompt="t0a " * 90), (SEEDS, "row 3", "the prompt has 92 tokens", "raise the parameter max_length (64)")
    ),
    "too few prompts": Bad(
        lambda place: (place.raw / PROMPTS).write_text("\n".join(map(json.dumps, place.rows(PROMPTS)[:40]))),
        ("2 iterations need 80 prompts, there are 40", "bring more prompts"),
    ),
}
CONFIGURATION = {
    "an experiment that climbs out": Bad(nothing, ("parameter experiment", "'../../etc'"), {"experiment": "../../etc"}),
    "an experiment that is a path": Bad(nothing, ("parameter experiment", "'/etc'"), {"experiment": "/etc"}),
    "an experiment that hides": Bad(nothing, ("parameter experiment", "'.x'"), {"experiment": ".x"}),
    "an experiment of two lines": Bad(nothing, ("parameter experiment",), {"experiment": "a\nb"}),
    "an experiment's name of 300 letters": Bad(nothing, ("parameter experiment", "100"), {"experiment": "a" * 300}),
    "an experiment that climbs out, from the environment": Bad(
        nothing, ("parameter experiment", "'../up'"), environment={"SELFIE_EXPERIMENT": "../up"}
    ),
    "a YAML tag that runs a command": Bad(
        configured("parameters", "beta: !!python/object/apply:os.system ['touch hacked']"),
        ("parameters_more.yml, line 1", "could not determine a constructor", "write plain YAML"),
    ),
    "a YAML tag in the catalog": Bad(
        configured("catalog", "a:\n  type: !!python/name:os.system"),
        ("catalog_more.yml, line 2", "could not determine a constructor"),
    ),
    "broken YAML": Bad(configured("parameters", "beta: [1, 2\nq: }"), ("parameters_more.yml, line 2", "can't be read")),
    "YAML that is not UTF-8": Bad(
        lambda place: (place.folder / "conf/mine/parameters_more.yml").write_bytes(b"beta: \xff"),
        ("parameters_more.yml", "can't be read", "UTF-8"),
    ),
    "a name twice": Bad(configured("parameters", "a: 1\na: 2"), ("parameters_more.yml", "duplicate key a")),
    "a list for a mapping": Bad(configured("parameters", "- 1\n- 2"), ("parameters_more.yml", "not a mapping")),
    "an interpolation of nothing": Bad(
        configured("parameters", "beta2: ${nobody:1}"), ("parameters", "Unsupported interpolation type nobody")
    ),
    "a catalog entry that is no dataset": Bad(
        lambda place: place.catalog("selfie.datasets.PromptDataset", "os.system"), ("catalog", "os.system")
    ),
    "a catalog entry that asks for remote code": Bad(
        lambda place: place.catalog(
            "filepath: ${globals:model}", "filepath: ${globals:model}\n  trust_remote_code: true"
        ),
        ("catalog, initial_model", "trust_remote_code"),
    ),
    "a hub dataset without a revision": Bad(
        lambda place: place.catalog("filepath: ${globals:data}/01_raw/prompts.jsonl", "hub: some/data"),
        ("catalog, prompts", "needs a `revision`"),
    ),
    "a link out of the data folder": Bad(
        link("data/01_raw/prompts.jsonl", "elsewhere/prompts.jsonl"),
        ("catalog, prompts", "leads out of", "elsewhere/prompts.jsonl", "name the real path in the catalog"),
    ),
    "a link out of the folder that runs write to": Bad(
        link("data/06_models", "elsewhere/models"), ("catalog, ", "leads out of", "elsewhere/models", "SELFIE_DATA")
    ),
    "a path that climbs out": Bad(
        lambda place: place.catalog("01_raw/prompts.jsonl", "01_raw/../../conf/prompts.jsonl"),
        ("catalog, prompts", "leads out of"),
    ),
    "a bucket to write to": Bad(
        globals_data("s3://bucket/prefix"), ("globals.yml, data", "s3://bucket/prefix", "name a local folder")
    ),
    "a bucket to write to, whose package is missing": Bad(
        globals_data("${env:SELFIE_DATA}"),
        ("SELFIE_DATA", "gs://bucket", "install gcsfs", "name a local folder"),
        environment={"SELFIE_DATA": "gs://bucket"},
    ),
    "a bucket for a policy": Bad(
        configured("catalog", "policy_1:\n  type: selfie.datasets.CheckpointDataset\n  filepath: s3://bucket/policy"),
        ("catalog, policy_1", "s3://bucket/policy", "name a local folder"),
    ),
    "a bucket for the lock": Bad(
        configured("catalog", "run_lock:\n  type: selfie.datasets.LockDataset\n  filepath: s3://bucket/.lock"),
        ("catalog, run_lock", "s3://bucket/.lock", "name a local folder"),
    ),
    "a misspelt parameter": Bad(nothing, ("parameter betta", "did you mean beta?"), {"betta": 0.1}),
    "text for a number": Bad(nothing, ("parameter beta", "it is 'high'"), {"beta": "high"}),
    "yes for a number": Bad(
        nothing, ("training.label_smoothing", "it is True"), {"training": {"label_smoothing": True}}
    ),
    "an infinite learning rate": Bad(
        nothing, ("training.learning_rate", "inf"), {"training": {"learning_rate": float("inf")}}
    ),
    "a learning rate of 1e9": Bad(
        nothing, ("training.learning_rate", "less than or equal to 1"), {"training": {"learning_rate": 1e9}}
    ),
    "an infinite β": Bad(nothing, ("parameter beta", "finite"), {"beta": float("inf")}),
    "a billion epochs": Bad(nothing, ("training.epochs", "1000"), {"training": {"epochs": 10**9}}),
    "a million samples": Bad(nothing, ("samples_per_prompt",), {"generation": {"samples_per_prompt": 10**6}}),
    "no room for a prompt": Bad(
        nothing, ("generation.max_new_tokens 64 leaves no room",), {"generation": {"max_new_tokens": 64}}
    ),
    "more tokens than the model has positions": Bad(
        nothing, ("parameter max_length", "more than the 128 positions", "128 or less"), {"max_length": 4096}
    ),
    "a million iterations": Bad(
        nothing, ("SELFIE_ITERATIONS", "from 0 to 100"), environment={"SELFIE_ITERATIONS": "1000000"}
    ),
    "iterations in words": Bad(nothing, ("SELFIE_ITERATIONS", "'two'"), environment={"SELFIE_ITERATIONS": "two"}),
    "a batch for three processes": Bad(
        nothing,
        ("seeding.batch_size", "8 pairs can't be shared out evenly to 3 processes"),
        {"execution": {"training_processes": 3}},
    ),
    "an accelerate file that is not there": Bad(
        nothing,
        ("parameter execution.accelerate_config", "there is no file fsdp.yaml"),
        {"execution": {"training_processes": 2, "accelerate_config": "fsdp.yaml"}},
    ),
}
MODEL = {
    "no model": Bad(lambda place: shutil.rmtree(place.model), ("model", "does not exist", "globals.yml")),
    "no weights but a pickle": Bad(only_pickled, ("no weights in safetensors format",)),
    "a pickle beside the weights": Bad(pickled, ("pytorch_model.bin", "it is a pickle, which runs code", "delete it")),
    "a pickle by another name": Bad(lambda place: pickled(place, "optimizer.pt"), ("optimizer.pt", "it is a pickle")),
    "code in the checkpoint": Bad(
        lambda place: (place.model / "modeling_evil.py").write_text("open('hacked', 'w')"),
        ("modeling_evil.py", "own code is never run", "delete it"),
    ),
    "auto_map in the configuration": Bad(
        model_json("config.json", auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"}),
        ("config.json", "code of its own (auto_map)", "remove auto_map"),
    ),
    "auto_map in the tokenizer": Bad(
        model_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}),
        ("tokenizer_config.json", "auto_map"),
    ),
    "an unknown architecture": Bad(
        model_json("config.json", model_type="evil"), ("configuration can't be read", "evil", "transformers knows")
    ),
    "a configuration that is not JSON": Bad(
        lambda place: (place.model / "config.json").write_text("{"), ("config.json", "it is not JSON")
    ),
    "half the weights": Bad(cut_weights, ("model.safetensors", "the weights are damaged", "copy or save")),
    "a shard that is not there": Bad(
        lambda place: (place.model / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
        ),
        ("index.json", "model-00001-of-00002.safetensors is not there"),
    ),
    "a tokenizer that is not JSON": Bad(
        lambda place: (place.model / "tokenizer.json").write_text("{"), ("its tokenizer can't be read",)
    ),
    "a tokenizer larger than the vocabulary": Bad(
        model_json("config.json", vocab_size=64), ("token ids up to 76", "vocabulary ends at 63")
    ),
    "no eos token": Bad(model_json("tokenizer_config.json", eos_token=None), ("no eos_token",)),
    "no chat template": Bad(
        lambda place: (place.model / "chat_template.jinja").unlink(), ("no chat template", "instruction-tuned")
    ),
    "a template that fails": Bad(template("{{ raise_exception('only tools') }}"), ("template fails", "only tools")),
    "a template that is not Jinja": Bad(template("{% for m in %}"), ("the chat template fails",)),
    "a template that leaves the message out": Bad(template("<user> <assistant>"), ("leaves the prompt out",)),
    "a template that leaves the response out": Bad(
        template("<user> {{ messages[0]['content'] }} <assistant>"), ("leaves the response out",)
    ),
    "a template that writes two eos tokens": Bad(
        template(TURN + "{% if not add_generation_prompt %}<eos> <eos>{% endif %}"), ("two eos tokens in a row",)
    ),
    "a template that writes the prompt otherwise later": Bad(
        template("{{ messages | length }} " + TURN), ("writes a prompt otherwise once a response follows",)
    ),
    "a template that knows no system turn": Bad(
        lambda place: (
            template("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURN)(
                place
            ),
            prompt([SYSTEM, USER])(place),
        ),
        (PROMPTS, "row 3", "can't write it (no system)", "system, user"),
    ),
}
BAD = {**DATA, **CONFIGURATION, **MODEL}
