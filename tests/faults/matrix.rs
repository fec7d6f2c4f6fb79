//! Which test answers what: every fault in every phase of a transaction over several shards. A cell without a test says why it needs none.

use std::path::Path;

/// How far a transaction is when the fault comes: nothing was sent; some shards have prepared; all have; some have committed; all have, and
/// their records are not forgotten.
const PHASES: usize = 5;

/// The answers to one fault, phase by phase.
type Cells = [&'static [&'static str]; PHASES];

/// A cell that says why it needs no test.
const NOTHING_THERE: &[&str] = &["- nothing is there yet"];
const OVER: &[&str] = &["- the transaction is over; records are deleted, now or by their age"];

const DEATH: &[&str] = &[
    "crash::a_coordinator_that_dies_leaves_all_or_nothing_on_static_shards",
    "crash::a_coordinator_that_dies_leaves_all_or_nothing_in_a_cluster",
];
const REFUSED_COMMIT: &[&str] = &[
    "refusal::a_commit_that_is_refused_is_sent_again_until_it_is_applied",
    "refusal::a_commit_that_is_refused_in_a_cluster_is_sent_again_until_it_is_applied",
    "refusal::a_commit_that_is_refused_for_longer_than_the_clients_patience_is_pending_and_applied_once",
    "refusal::a_shard_that_loads_its_data_gets_the_commit_when_it_has",
];
const REFUSED_PREPARE: &[&str] =
    &["refusal::a_prepare_that_is_refused_has_applied_nothing", "refusal::a_prepare_that_is_refused_in_a_cluster_has_applied_nothing"];
const RESOLVERS: &[&str] =
    &["resolvers::many_resolvers_at_once_come_to_the_same_end", "resolvers::a_resolver_that_comes_late_changes_nothing"];
const LOST_PREPARE: &[&str] = &[
    "wire::a_lost_prepare_is_settled_by_a_fence_and_the_client_is_told_what_is_on_the_shards",
    "wire::a_lost_prepare_on_a_watching_connection_is_settled_too",
    "wire::an_abort_or_a_fence_that_is_lost_is_sent_again",
];
const KILLED_SHARD: &[&str] = &["wire::a_shard_that_is_killed_in_the_middle_of_a_step_comes_back_to_the_end_of_the_transaction"];
const FORGOTTEN: &[&str] =
    &["forgotten::scripts_that_a_shard_has_forgotten_are_loaded_again_at_any_step", "forgotten::an_abort_and_a_fence_are_loaded_again"];
const MOVED: &[&str] = &["moves::a_transaction_over_a_slot_that_has_moved_since_is_carried_out_once"];
const MOVING: &[&str] = &["refusal::a_slot_that_moves_key_by_key_holds_a_commit_back_until_it_has_moved"];
const APART: &[&str] = &[
    "clock::what_a_dead_coordinator_left_is_settled_in_time_when_clocks_are_a_minute_apart",
    "clock::what_a_dead_coordinator_left_in_a_cluster_is_settled_in_time_when_clocks_are_a_minute_apart",
    "clock::proxies_and_shards_a_minute_apart_lose_and_double_nothing_while_proxies_are_killed",
];
const GARBAGE: &[&str] = &["desync::garbage_before_the_answer_to_a_step_is_an_answer_that_is_lost"];

const UNCONFIRMED: &str = "durable::with_too_few_replicas_the_error_says_committed_and_the_next_are_refused";
const DIE_TOGETHER: &str = "durable_failover::a_coordinator_and_a_primary_that_die_together_leave_all_or_nothing";

const MATRIX: &[(&str, Cells)] = &[
    (
        "the proxy is killed",
        [
            DEATH,
            &[DEATH[0], DEATH[1], "crash::a_coordinator_that_dies_while_it_gives_way_has_applied_nothing"],
            &[DEATH[0], DEATH[1], "crash::a_dead_coordinators_locks_are_gone_before_two_leases_are_over"],
            &[DEATH[0], DEATH[1], "wire::a_commit_that_reached_one_shard_only_is_finished_by_another_proxy"],
            &[DEATH[0], "sweep::what_a_dead_proxy_left_is_finished_and_then_deleted"],
        ],
    ),
    (
        "the proxy is stopped and goes on",
        [
            &["pause::a_coordinator_that_wakes_after_the_others_aborted_tries_again_and_tells_what_came_of_that"],
            &["pause::a_coordinator_that_wakes_after_the_others_aborted_tries_again_and_tells_what_came_of_that"],
            &["pause::a_coordinator_that_wakes_after_the_others_committed_tells_the_replies_of_the_one_execution"],
            &["resolvers::a_resolver_that_comes_late_changes_nothing"],
            OVER,
        ],
    ),
    (
        "the proxy is told to stop",
        [
            NOTHING_THERE,
            &["pause::a_weft_that_is_told_to_stop_finishes_what_it_began"],
            &["pause::a_weft_that_is_told_to_stop_finishes_what_it_began"],
            &["pause::a_weft_that_is_told_to_stop_finishes_what_it_began"],
            OVER,
        ],
    ),
    (
        "a request or a reply is lost",
        [
            LOST_PREPARE,
            LOST_PREPARE,
            &["wire::a_commit_whose_reply_is_lost_still_gives_the_replies"],
            &["wire::a_commit_whose_reply_is_lost_still_gives_the_replies"],
            &["sweep::what_a_dead_proxy_left_is_finished_and_then_deleted"],
        ],
    ),
    (
        "the client is gone",
        [
            &["- a queue that no EXEC followed is dropped with its session"],
            &["resolvers::a_client_that_is_gone_at_exec_leaves_a_transaction_that_ends_all_the_same"],
            &["resolvers::a_client_that_is_gone_at_exec_leaves_a_transaction_that_ends_all_the_same"],
            &["resolvers::a_client_that_is_gone_at_exec_leaves_a_transaction_that_ends_all_the_same"],
            OVER,
        ],
    ),
    ("a shard is killed and comes back with its data", [KILLED_SHARD, KILLED_SHARD, KILLED_SHARD, KILLED_SHARD, OVER]),
    (
        "a shard stops answering",
        [
            &["wire::a_shard_that_stops_answering_is_given_up_and_the_transaction_ends_when_it_is_back"],
            &[
                "wire::a_shard_that_stops_answering_is_given_up_and_the_transaction_ends_when_it_is_back",
                "refusal::an_undecided_transaction_whose_shard_stays_away_is_unknown_and_settled_when_it_is_back",
            ],
            &["refusal::a_decided_transaction_whose_shard_stays_away_is_pending_and_applied_when_it_is_back"],
            &["refusal::a_decided_transaction_whose_shard_stays_away_is_pending_and_applied_when_it_is_back"],
            OVER,
        ],
    ),
    (
        "a replica takes over, with the record",
        [
            NOTHING_THERE,
            &["- as below: what a resolver finds is all there is"],
            &["failover::a_prepared_transaction_survives_a_failover", "failover::a_prepared_transaction_survives_the_death_of_a_primary"],
            &["failover::a_prepared_transaction_survives_the_death_of_a_primary"],
            OVER,
        ],
    ),
    (
        "a record is lost: FLUSHALL, DEL, a failover that loses writes",
        [
            NOTHING_THERE,
            &["lost::a_shard_that_is_flushed_while_others_have_yet_to_prepare_gets_its_part_again"],
            &[
                "lost::a_shard_that_is_flushed_between_prepare_and_commit_gets_its_part_again",
                "lost::a_users_script_is_applied_again_too",
                "lost::a_part_is_applied_again_only_after_a_lock_that_was_taken_meanwhile",
                "lost::a_record_that_somebody_deletes_is_written_again_under_the_locks_that_are_still_there",
                "lost::a_transaction_that_all_shards_have_lost_is_applied_nowhere",
            ],
            &["forgotten::what_is_applied_again_is_loaded_again"],
            OVER,
        ],
    ),
    (
        "replicas that are waited for do not confirm in time",
        [
            &["durable::without_any_replica_nothing_is_applied", UNCONFIRMED],
            &["durable::exec_is_answered_when_replicas_have_it_and_not_before", UNCONFIRMED],
            &["durable::exec_is_answered_when_replicas_have_it_and_not_before", UNCONFIRMED],
            &["- a commit waits for no replica: they have the record that leads there"],
            &["durable::records_are_forgotten_only_when_replicas_have_the_commits"],
        ],
    ),
    (
        "a primary dies whose replicas are waited for",
        [
            NOTHING_THERE,
            &["durable_failover::what_replicas_have_not_got_when_the_primary_dies_is_applied_nowhere", DIE_TOGETHER],
            &["durable_failover::what_replicas_have_not_got_when_the_primary_dies_is_applied_nowhere", DIE_TOGETHER],
            &[DIE_TOGETHER, "durable_failover::a_failover_under_load_loses_nothing_that_was_told_and_tears_nothing"],
            &[DIE_TOGETHER, "durable_failover::a_failover_under_load_loses_nothing_that_was_told_and_tears_nothing"],
        ],
    ),
    ("a slot moves key by key", [MOVED, &["moves::a_watch_on_a_slot_that_has_moved_is_broken"], MOVING, MOVING, OVER]),
    (
        "a slot moves in one piece",
        [
            MOVED,
            &["moves::a_transaction_that_is_prepared_moves_with_its_slot_when_that_moves_in_one_piece"],
            &["moves::a_transaction_that_is_prepared_moves_with_its_slot_when_that_moves_in_one_piece"],
            &["moves::a_transaction_that_is_prepared_moves_with_its_slot_when_that_moves_in_one_piece"],
            OVER,
        ],
    ),
    (
        "the memory is full",
        [
            REFUSED_PREPARE,
            REFUSED_PREPARE,
            &["refusal::a_commit_runs_although_the_memory_is_full"],
            &["refusal::a_commit_runs_although_the_memory_is_full"],
            &["scripts::a_full_memory_refuses_prepare_and_writes_but_nothing_that_finishes"],
        ],
    ),
    (
        "a shard may evict records",
        [
            &["refusal::shards_that_may_evict_records_get_no_transaction_with_others"],
            &["- not begun"],
            &["- not begun"],
            &["- not begun"],
            &["- not begun"],
        ],
    ),
    (
        "a shard forgets the scripts",
        [
            FORGOTTEN,
            FORGOTTEN,
            &[FORGOTTEN[0], "forgotten::a_resolvers_steps_are_loaded_again"],
            &["forgotten::a_resolvers_steps_are_loaded_again", "forgotten::what_is_applied_again_is_loaded_again"],
            &["forgotten::the_forgetting_of_records_is_loaded_again"],
        ],
    ),
    (
        "a shard is BUSY, LOADING, READONLY or down, or refuses with MISCONF, NOREPLICAS, NOPERM",
        [REFUSED_PREPARE, REFUSED_PREPARE, REFUSED_COMMIT, REFUSED_COMMIT, &["- forgetting is left to the sweeper"]],
    ),
    (
        "several resolve it at once, some late",
        [
            NOTHING_THERE,
            RESOLVERS,
            RESOLVERS,
            &["crash::a_resolver_that_dies_is_taken_over_from", "resolvers::a_resolver_that_comes_late_changes_nothing"],
            OVER,
        ],
    ),
    (
        "a prepare comes late, or twice",
        [
            &["wire::a_prepare_that_arrives_late_meets_the_fence", "scripts::prepare_refuses_a_start_that_is_five_minutes_off"],
            &["wire::a_prepare_that_arrives_late_meets_the_fence", "scripts::a_fence_keeps_a_late_prepare_out"],
            &["scripts::a_fence_leaves_prepared_as_it_is_and_tells_what_a_resolver_needs"],
            &["resolvers::a_prepare_that_was_given_up_and_arrives_after_its_successor_is_refused"],
            &["resolvers::a_prepare_that_was_given_up_and_arrives_after_its_successor_is_refused"],
        ],
    ),
    (
        "a client writes past the proxies",
        [
            &["- it may break the isolation, as on one Redis without WATCH; never the atomicity"],
            &["- as before"],
            &["- as before"],
            &["- as before"],
            OVER,
        ],
    ),
    (
        "clocks are wrong",
        [
            &["clock::a_transaction_whose_start_is_six_minutes_off_the_shards_clock_is_refused"],
            APART,
            &[
                APART[0],
                "clock::a_living_owner_is_waited_for_although_clocks_are_a_minute_apart",
                "clock::a_clock_that_jumps_between_prepare_and_commit_changes_nothing",
            ],
            APART,
            OVER,
        ],
    ),
    (
        "another version wrote the record",
        [
            NOTHING_THERE,
            &["resolvers::a_record_of_another_version_is_left_alone_with_its_locks"],
            &["resolvers::a_record_of_another_version_is_left_alone_with_its_locks"],
            &["resolvers::a_record_of_another_version_is_left_alone_with_its_locks"],
            &["resolvers::a_record_of_another_version_is_left_alone_with_its_locks"],
        ],
    ),
    (
        "a shard answers what nobody asked for",
        [
            &[
                "desync::a_reply_too_many_is_never_taken_for_that_to_the_next_request",
                "desync::a_shard_that_says_more_than_it_is_asked_in_the_handshake_is_not_believed",
            ],
            GARBAGE,
            GARBAGE,
            GARBAGE,
            &["desync::garbage_before_a_reply_costs_the_connection_and_never_misleads"],
        ],
    ),
];

#[test]
fn every_fault_in_every_phase_has_a_test_or_a_reason() {
    for (fault, cells) in MATRIX {
        for cell in cells {
            assert!(!cell.is_empty(), "{fault}: a cell is empty");
            let names = cell.iter().filter(|name| !name.starts_with("- "));
            names.for_each(|name| assert!(exists(name), "{fault}: there is no test {name}"));
        }
    }
}

/// Whether `name` is a test: `module::test`, the module below this folder or the one above.
fn exists(name: &str) -> bool {
    let (module, test) = name.split_once("::").expect("a module and a test");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let sources = [tests.join("faults").join(module), tests.join(module)];
    let text = sources.iter().find_map(|path| std::fs::read_to_string(path.with_extension("rs")).ok()).unwrap_or_default();
    text.contains(&format!("#[test]\nfn {test}() {{"))
}
