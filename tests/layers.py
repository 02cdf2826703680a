"""Which tests run when: with every change (unit, integration) or at night."""

# What is no unit test, as file or file::test below tests/; the most exact entry counts.
LAYERS = {
    "integration": (
        "app/test_freshness.py",
        "benchmarks/test_plan_error.py::test_the_command_on_a_finished_run",
        "benchmarks/test_speed.py",
        "chat/test_chat_command.py",
        "config/test_methods.py",
        "data/test_validation.py::test_the_quarantine_is_a_committed_file_that_the_log_names",
        "evaluation/test_capabilities.py::test_lm_eval_is_asked_for_before_anything_runs",
        "evaluation/test_capabilities.py::test_the_pipeline_measures_every_policy_and_the_report_shows_it",
        "evaluation/test_evaluate_outputs.py",
        "evaluation/test_heldout.py::test_a_run_judges_held_out_pairs",
        "execution/test_local_workers.py",
        "export/test_export.py",
        "export/test_hub.py",
        "generation/test_vllm_console.py",
        "generation/test_vllm_engine.py",
        "generation/test_vllm_worker.py",
        "labelling/test_label_command.py",
        "labelling/test_label_file.py::test_labels_of_a_killed_process_are_there",
        "labelling/test_label_in_browser.py",
        "labelling/test_page.py",
        "labelling/test_proposal.py",
        "labelling/test_server.py",
        "planning/test_plan_command.py",
        "reporting/test_report_in_browser.py",
        "runtime/test_memory.py",
        "test_bad_inputs.py",
        "test_continuing.py",
        "test_exposure.py",
        "test_faults.py",
        "test_plug_ins.py",
        "test_project.py",
        "test_sessions.py",
        "test_starter.py",
        "tracking/test_journal.py",
        "training/test_checkpointing.py",
        "training/test_processes.py",
        "training/test_training_faults.py",
    ),
    "nightly": (
        "benchmarks/test_chaos.py::test_killed_runs_end_like_uninterrupted_ones",
        "benchmarks/test_label_selection.py::test_the_study_runs_and_resumes",
        "benchmarks/test_method_comparison_study.py",
        "benchmarks/test_scaling.py",
        "benchmarks/test_speed.py::test_a_contestant_runs_in_a_process_of_its_own",
        "benchmarks/test_speed.py::test_every_part_runs_and_is_written",
        "benchmarks/test_speed.py::test_only_ours_runs_with_the_projects_settings",
        "data/test_validation.py::test_sixty_thousand_rows_take_seconds",
        "execution/test_local_workers.py::test_one_two_and_three_workers_give_the_same_bytes",
        "execution/test_ray_workers.py",
        "export/test_export.py::test_vllm_says_the_same",
        "export/test_hub.py::test_a_run_that_the_hub_leaves_keeps_the_export_and_the_next_one_uploads_it",
        "generation/test_vllm_killed.py",
        "judges/test_vllm_serve.py",
        "runtime/test_memory.py::test_the_benchmark_of_growth",
        "test_bad_inputs.py::test_every_bad_input_stops_a_whole_run",
        "test_sessions.py::test_a_notebook",
        "test_sessions.py::test_a_server",
        "test_sessions.py::test_airflow_runs_a_step_in_a_process_and_continues",
        "test_starter.py::test_a_second_run_waits_for_none_and_goes_on_where_the_first_stopped",
    ),
}


def layer_of(test: str) -> str:
    """The layer of ``file::test`` below tests/."""
    layers = {entry: layer for layer, entries in LAYERS.items() for entry in entries}
    name = test.partition("[")[0]
    return layers.get(name) or layers.get(name.partition("::")[0]) or "unit"
