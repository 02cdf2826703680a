"""The project's commands: ``kedro run`` that goes on where it stopped, ``status``, ``plan``, ``label`` …"""

import json
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS
from kedro.framework.project import settings
from rich.console import Console

from selfie.errors.disk_and_memory import explain
from selfie.runtime.signals import exit_on_sigterm

# Kedro's default by its name, too: the server and other tools give that name where nobody chose a runner.
RUNNERS = dict.fromkeys((None, "SequentialRunner"), "selfie.app.runner.ContinuingRunner")


@click.group(context_settings=CONTEXT_SETTINGS, name="selfie")
def cli() -> None:
    """Align a language model from a few preference labels by letting it label its own data."""


def _run(fresh: bool, runner: str | None, runner_params: dict[str, Any], **options: Any) -> Any:
    if fresh:
        runner_params = {**runner_params, "fresh": True}
    assert kedro_run.callback is not None
    try:
        with exit_on_sigterm():
            return kedro_run.callback(runner=RUNNERS.get(runner, runner), runner_params=runner_params, **options)
    except Exception as error:
        known = explain(error)
        if known is None or known is error:
            raise
        raise known from error


run = click.Command(
    "run",
    params=[
        *kedro_run.params,
        click.Option(["--fresh"], is_flag=True, help="Repeat every step, committed and fresh or not."),
    ],
    callback=_run,
    help="Run the pipeline, from where the last run stopped: what is committed and fresh is skipped.",
)
cli.add_command(run)


def _status(env: str | None, params: dict[str, Any]) -> None:
    from selfie.app.status import status_table

    with settings.SESSION_CLASS.create(env=env, runtime_params=params) as session:
        Console().print(status_table(session.load_context().catalog))


status = click.Command(
    "status",
    params=[option for option in kedro_run.params if option.name in ("env", "params")],
    callback=_status,
    help="Show for every stage: done, stale (why), partial or missing.",
)
cli.add_command(status)


def _label(env: str | None, params: dict[str, Any], conf_source: str | None, annotator: str, port: int) -> None:
    from selfie.app.labelling import open_server, serve

    with settings.SESSION_CLASS.create(env=env, runtime_params=params, conf_source=conf_source) as session:
        context = session.load_context()
        server = open_server(context.catalog, context.params["seed"], annotator, port)
    with exit_on_sigterm():
        serve(server, click.echo)


def _labels(env: str | None, params: dict[str, Any], conf_source: str | None, export: tuple[str, Path] | None) -> None:
    from selfie.app.labelling import export_labels, labels_summary, labels_table, merge_labels

    with settings.SESSION_CLASS.create(env=env, runtime_params=params, conf_source=conf_source) as session:
        context = session.load_context()
        merged = merge_labels(context.catalog, context.params["seed"])
        Console().print(labels_table(merged))
        for line in labels_summary(merged, context.catalog, context.project_path):
            click.echo(line)
        if export:
            click.echo(export_labels(merged, *export))


CONFIGURED = [option for option in kedro_run.params if option.name in ("env", "params", "conf_source")]
label = click.Command(
    "label",
    params=[
        *CONFIGURED,
        click.Option(["--annotator"], default="me", show_default=True, help="Whose labels these are: a file's name."),
        click.Option(["--port"], type=click.IntRange(0, 65535), default=8377, show_default=True, help="0: a free one."),
    ],
    callback=_label,
    help="Open a page on this machine to label the proposed pairs; goes on where the annotator stopped.",
)
labels = click.Command(
    "labels",
    params=[
        *CONFIGURED,
        click.Option(
            ["--export"],
            type=(click.Choice(("trl", "hh")), click.Path(path_type=Path)),
            default=None,
            metavar="trl|hh FILE",
            help="Write the preferences as JSON lines for TRL, or like Anthropic's HH-RLHF, to a new file.",
        ),
    ],
    callback=_labels,
    help="Merge all annotators' labels into preferences, and show how far they agree.",
)
cli.add_command(label)
cli.add_command(labels)


def _chat(policies: tuple[str, ...], env: str | None, params: dict[str, Any]) -> None:
    from selfie.app.chat_setup import chat_setup
    from selfie.chat.open_chat import open_chat

    with settings.SESSION_CLASS.create(env=env, runtime_params=params) as session:
        open_chat(*chat_setup(policies, session.load_context()))


chat = click.Command(
    "chat",
    params=[
        click.Argument(["policies"], nargs=-1, required=True, metavar="POLICY [POLICY]"),
        *(option for option in kedro_run.params if option.name in ("env", "params")),
    ],
    callback=_chat,
    help="Talk to a policy (initial_model, policy_0 … or a model's folder), or to two of them, blind and with votes.",
)
cli.add_command(chat)


def _plan(
    env: str | None,
    params: dict[str, Any],
    conf_source: str | None,
    model: str | None,
    hardware: str | None,
    devices: int,
    price: float | None,
    as_json: bool,
) -> None:
    from selfie.app.planning import plan_command
    from selfie.planning.tables import lines, memory_table, stage_table
    from selfie.reporting.tables import print_table

    with settings.SESSION_CLASS.create(env=env, runtime_params=params, conf_source=conf_source) as session:
        found = plan_command(session.load_context(), model, hardware, devices, price)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=1))
        return
    for table in (stage_table(found), memory_table(found)):
        print_table(table)
    for line in lines(found):
        click.echo(line)


plan = click.Command(
    "plan",
    params=[
        click.Argument(["model"], required=False),
        *CONFIGURED,
        click.Option(["--hardware"], help="A GPU: l4, rtx4090, l40s, a100, h100, h200. By default this machine."),
        click.Option(["--devices"], type=click.IntRange(1), default=1, show_default=True, help="How many of them."),
        click.Option(["--price"], type=click.FloatRange(0), help="Dollars for one device and hour."),
        click.Option(["--json", "as_json"], is_flag=True, help="Plain data: seconds, bytes, dollars."),
    ],
    callback=_plan,
    help="What a run takes: time, FLOPs, money, memory, disk. Loads nothing. MODEL: another one than the run's, "
    "a dataset of the catalog, a folder or a config.json.",
)
cli.add_command(plan)
