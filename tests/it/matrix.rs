//! The faults that serving has to stand, each with the tests that put it under the real program.
//!
//! In CI it is only held against the tests that there are: a row whose test was renamed or removed fails. One command runs
//! all of them, in their short forms or (an hour and more) in their long ones, and prints a table of what came of each:
//!
//! ```sh
//! DETHRONE_MATRIX=short cargo test --release --locked --test it matrix -- --nocapture   # or DETHRONE_MATRIX=long
//! ```

use std::process::Command;
use std::time::Instant;

/// A fault, and the tests that it is tried with.
type Row = (&'static str, &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        "kill -9 in any step of a promotion",
        &[
            "faults::kills::a_kill_at_every_write_sync_and_rename_of_a_promotion_leaves_the_old_champion_or_the_new_one",
            "recovery::at_whatever_moment_it_is_killed_what_was_acknowledged_is_there",
        ],
    ),
    (
        "kill -9 in any step of a migration",
        &["faults::kills::a_kill_at_every_step_of_a_migration_leaves_a_ledger_that_the_next_start_brings_up_to_date"],
    ),
    (
        "power cut",
        &["faults::power::whatever_the_disk_had_not_synced_when_the_power_goes_acknowledged_labels_are_there"],
    ),
    (
        "error of a write, sync or rename",
        &["faults::disk::an_error_at_the_nth_sync_or_write_refuses_what_it_hit_acknowledges_nothing_false_and_heals"],
    ),
    (
        "full disk",
        &["faults::disk::on_a_full_disk_predictions_go_on_labels_are_refused_with_507_and_it_heals_when_there_is_room"],
    ),
    (
        "slow disk",
        &["faults::disk::while_a_sync_takes_long_predictions_are_answered_and_the_label_waits_for_it"],
    ),
    (
        "no descriptor is left",
        &["listener::when_descriptors_run_out_accepting_rests_and_it_goes_on_once_there_are_some"],
    ),
    (
        "a runner's memory is used up",
        &["arena::runner::a_run_beyond_its_memory_fails_and_a_small_limit_leaves_room_for_the_model"],
    ),
    (
        "a runner is killed",
        &[
            "arena::challenger::killing_the_runner_loses_nothing_but_shadow_rows",
            "processes::killing_processes_of_the_champion_under_load_fails_no_request",
        ],
    ),
    (
        "bits flip in the model store",
        &["recovery::bytes_that_are_not_what_their_digest_says_are_not_run_and_come_back_from_the_directory"],
    ),
    (
        "the champion's file is lost",
        &["recovery::a_champion_that_cannot_be_loaded_is_stood_in_for_until_its_file_is_back_or_a_person_promotes"],
    ),
    (
        "two gateways on one state directory",
        &["faults::disk::a_second_gateway_on_the_same_state_is_refused_and_the_first_goes_on"],
    ),
    (
        "state of a newer version",
        &["recovery::a_state_directory_in_use_or_of_a_newer_format_is_refused"],
    ),
    (
        "a runner crashes",
        &[
            "arena::runner::a_crash_names_its_signal_and_leaves_no_process_behind",
            "processes::a_client_that_kills_the_process_of_the_champion_gets_an_error_and_everybody_else_an_answer",
        ],
    ),
    (
        "a runner hangs or never ends",
        &[
            "arena::runner::an_endless_run_is_ended_at_its_cpu_limit_or_its_wall_limit_and_the_runner_lives",
            "arena::challenger::a_runner_that_takes_work_and_sleeps_on_it_is_quarantined_after_three_times",
            "processes::a_process_of_the_champion_that_is_stopped_is_replaced_and_fails_no_request",
        ],
    ),
    (
        "a runner writes junk",
        &["arena::runner::a_runner_that_lies_or_leaves_is_ended_and_named"],
    ),
    (
        "somebody truncates the memory that holds a model",
        &["arena::runner::nobody_can_cut_off_the_memory_of_a_model_and_a_model_that_is_cut_short_is_refused_by_name"],
    ),
    (
        "a runner is taken over",
        &["arena::sandbox::what_was_taken_over_gets_at_nothing"],
    ),
    (
        "a challenger is too slow",
        &[
            "arena::challenger::a_full_queue_refuses_the_offer_with_its_reason",
            "shadowing::every_offered_row_is_executed_or_dropped_with_a_reason",
        ],
    ),
    (
        "a model file is replaced while it is loaded",
        &[
            "registry::a_file_that_keeps_changing_stays_one_version",
            "intake::a_file_written_again_in_place_with_the_same_size_is_looked_at_again",
        ],
    ),
    (
        "many models at once",
        &[
            "registry::a_hundred_files_at_once_are_all_judged_while_answers_go_on",
            "intake::a_thousand_files_dropped_at_once_are_all_found",
        ],
    ),
    (
        "hostile models",
        &["corpus::a_hostile_directory_costs_no_answer_and_every_file_in_it_fares_as_the_table_says"],
    ),
    (
        "the directory vanishes, or cannot be read",
        &[
            "registry::directories_that_vanish_for_a_moment_disturb_nothing",
            "registry::a_directory_that_is_away_retires_nothing_and_is_missed_once",
        ],
    ),
    (
        "the clock jumps",
        &["faults::power::a_clock_that_jumps_between_and_during_runs_loses_no_label_and_issues_no_id_twice"],
    ),
    (
        "processors are starved",
        &[
            "quota::where_the_processors_time_is_used_up_shadows_rest_and_no_request_fails_and_nobody_is_quarantined",
            "arena::challenger::a_starved_run_is_shed_and_nobodys_fault_also_where_the_host_is_busy",
        ],
    ),
    (
        "the gateway is paused",
        &["paused::a_gateway_that_is_paused_for_five_seconds_loses_nothing_and_blames_nobody"],
    ),
    (
        "overload, and clients that ask again",
        &[
            "overload::under_overload_shadows_rest_first_predictions_are_refused_in_time_and_labels_are_taken",
            "predict::a_burst_for_a_slow_model_is_refused_beyond_a_few_that_wait_and_holds_nothing_else_up",
        ],
    ),
    (
        "clients give up midway",
        &["gone::the_work_of_clients_that_leave_ends_is_not_recorded_as_answered_and_others_are_not_touched"],
    ),
    (
        "slow clients",
        &[
            "timeouts::what_a_client_that_was_cut_has_not_taken_is_given_up_by_the_system_too",
            "timeouts::many_slow_clients_of_all_kinds_are_cut_and_others_are_served_meanwhile",
            "slow::slowhttptest_finds_the_service_available_and_all_of_its_slow_connections_closed",
        ],
    ),
    (
        "a flood of connections",
        &["listener::a_full_house_sends_the_longest_idle_away"],
    ),
    (
        "floods of HTTP/2",
        &[
            "timeouts::floods_of_http2_end_in_goaway",
            "timeouts::floods_whose_replies_nobody_reads_are_cut",
            "timeouts::a_block_of_headers_that_unpacks_to_thousands_of_times_its_size_is_refused_and_takes_no_memory",
        ],
    ),
    (
        "ambiguous requests",
        &["framing::every_raw_request_gets_exactly_the_answers_it_is_due"],
    ),
    (
        "bad input",
        &["bad_input::bad_input_is_refused_with_status_code_and_a_helping_word_and_never_500"],
    ),
    (
        "labels twice, out of order, late",
        &[
            "ids::every_label_sent_five_times_by_each_of_four_clients_counts_once",
            "feedback::every_status_is_reached_and_comes_back_in_the_order_sent",
        ],
    ),
    (
        "a label before its row is scored",
        &["feedback::a_label_may_come_before_the_challengers_have_scored_its_row"],
    ),
    (
        "forged ids",
        &["ids::of_many_forged_ids_none_is_accepted_and_the_ledger_is_not_asked"],
    ),
    (
        "the key of ids is changed",
        &["ids::a_running_gateway_takes_a_new_key_and_ids_of_the_old_one_are_labelled_all_the_same"],
    ),
    (
        "API keys are changed",
        &["keys::keys_are_changed_under_traffic_without_a_failed_request_and_a_faulty_file_changes_nothing"],
    ),
    (
        "SIGTERM, once and twice",
        &[
            "signals::what_is_in_flight_at_sigterm_is_finished",
            "signals::while_balancers_are_given_time_requests_are_answered_and_readiness_is_not_and_a_second_signal_ends_it",
            "recovery::sigterm_ends_with_0_and_everything_offered_is_recorded",
        ],
    ),
    (
        "restarts under load",
        &["signals::no_request_fails_over_restarts_on_a_socket_that_stays_open"],
    ),
    (
        "upgrades under load",
        &[
            "upgrade::no_request_fails_over_upgrades",
            "upgrade::an_upgrade_that_fails_before_it_answers_changes_nothing",
        ],
    ),
    (
        "swaps under load",
        &["hot_swap::swaps_by_order_fail_no_request_and_mix_no_answer"],
    ),
];

/// What the long forms of single tests are asked for with.
const LONG: [(&str, &str); 7] = [
    ("DETHRONE_FAULTS", "long"),
    ("DETHRONE_RESTARTS", "100"),
    ("DETHRONE_UPGRADES", "100"),
    ("DETHRONE_SLOW_CLIENTS", "1000"),
    ("DETHRONE_FORGED_IDS", "1000000"),
    ("DETHRONE_STREAMED_LABELS", "1000000"),
    ("DETHRONE_RELOADS", "1000"),
];

fn this() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// How many times a test has tried it, in its own words where it has some.
fn told(said: &str) -> String {
    let rows = said
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows: Vec<String> = rows
        .map(|(_, counts)| counts.trim_end_matches(" |").replace(" | ", ", "))
        .collect();
    match rows.is_empty() {
        true => "1 run".into(),
        false => rows.join("; "),
    }
}

#[test]
fn every_fault_that_serving_has_to_stand_has_tests_and_they_are_run_when_asked_for() {
    let listed = this().args(["--list", "--format", "terse"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let there: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    for (fault, tests) in ROWS {
        for test in *tests {
            assert!(there.contains(test), "{fault}: there is no test {test}");
        }
    }
    let Ok(form) = std::env::var("DETHRONE_MATRIX") else {
        return;
    };
    assert!(
        ["short", "long"].contains(&form.as_str()),
        "DETHRONE_MATRIX is short or long"
    );
    let mut failed = Vec::new();
    println!("| fault | test | tried | outcome | seconds |\n|---|---|---|---|---|");
    for (fault, tests) in ROWS {
        for test in *tests {
            let mut run = this();
            run.args(["--exact", "--nocapture", test]).env_remove("DETHRONE_MATRIX");
            if form == "long" {
                run.envs(LONG);
            }
            let start = Instant::now();
            let done = run.output().unwrap();
            let said = [done.stdout, done.stderr]
                .map(|said| String::from_utf8_lossy(&said).into_owned())
                .concat();
            let outcome = match (done.status.success(), said.contains("SKIPPED")) {
                (true, false) => "stood",
                (true, true) => "SKIPPED",
                (false, _) => "FAILED",
            };
            println!(
                "| {fault} | `{test}` | {} | {outcome} | {} |",
                told(&said),
                start.elapsed().as_secs()
            );
            if !done.status.success() {
                failed.push(format!("{test}:\n{said}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
