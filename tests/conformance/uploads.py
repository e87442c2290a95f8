"""The rules of the BITS upload protocol by their numbers, and the tests of server and client that prove them."""

from dataclasses import dataclass
from typing import Final

_S: Final = "tests/server/"
_H: Final = "tests/server/hostile_clients/"
_N: Final = "tests/server/notifications/"
_T: Final = "tests/transfer/"
_R: Final = "tests/real/"
_APP: Final = f"{_S}test_app.py"
_PACKETS: Final = f"{_H}test_packets.py"
_HOSTILE: Final = f"{_H}test_fragments.py"
_FRAGMENTS: Final = f"{_S}test_fragments.py"
_SESSIONS: Final = f"{_S}test_sessions.py"
_COMPLETION: Final = f"{_S}test_completion.py"
_RECEIVING: Final = f"{_S}test_receiving.py"
_PROTOCOL: Final = f"{_S}test_protocol.py"
_PROXIES: Final = f"{_S}test_behind_proxies.py"
_NOTIFIED: Final = f"{_S}test_notified_uploads.py"
_UPLOAD: Final = f"{_T}test_upload.py"
_ERRORS: Final = f"{_T}test_upload_errors.py"
_HOSTS: Final = f"{_T}test_upload_hosts.py"
_FALLBACK: Final = f"{_T}test_upload_fallback.py"
_WORKER: Final = f"{_T}test_worker_uploads.py"
_BODIES: Final = f"{_T}test_bodies.py"
_SIZES: Final = f"{_T}test_fragment_sizes.py"
_ORDER: Final = f"{_APP}::test_5_1_d6_the_first_thing_wrong_decides"


def _row(name: str, kind: str = "fresh") -> str:
    """The cell of a server that misbehaves, by plain HTTP; the same cell is played by every other way."""
    return f"{_T}test_upload_misbehaviours.py::test_an_upload_server_misbehaves[plain-{kind}-{name}]"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the specification. `server` and `client`: node ids; empty: that side has no part in it."""

    number: str
    what: str
    server: tuple[str, ...] = ()
    client: tuple[str, ...] = ()

    @property
    def proofs(self) -> tuple[str, ...]:
        """Of both sides."""
        return self.server + self.client


REQUIREMENTS: Final = (
    Rule(
        "H1",
        "HTTP/1.1 alone, by ALPN too; no upgrade",
        (
            f"{_S}test_tls.py::test_h1_alpn_is_http_1_1_and_nothing_else",
            f"{_PACKETS}::test_h1_what_is_no_http_is_not_answered_with_success",
        ),
        (f"{_WORKER}::test_h1_h2_every_packet_is_bits_post_over_http_1_1_with_a_length",),
    ),
    Rule(
        "H2",
        "Content-Length on every request; without it 411; chunked counts as missing",
        (
            f"{_PACKETS}::test_h2_a_packet_without_length_is_refused",
            f"{_PACKETS}::test_h2_a_length_that_is_none_is_refused",
            f"{_PACKETS}::test_h2_chunks_are_no_length",
            f"{_PROTOCOL}::test_h2_what_is_in_chunks_is_never_taken_for_a_request",
        ),
        (
            f"{_WORKER}::test_h1_h2_every_packet_is_bits_post_over_http_1_1_with_a_length",
            f"{_BODIES}::test_h2_a_packet_without_a_body_says_so",
        ),
    ),
    Rule(
        "H3",
        "an Ack has no body; a client drains and ignores one",
        (f"{_APP}::test_h3_h7_the_ack_of_create_has_the_fields_of_3_1",),
        (
            f"{_WORKER}::test_h3_what_follows_the_head_of_an_answer_is_not_waited_for",
            f"{_WORKER}::test_h3_an_answer_whose_body_is_cut_is_an_answer",
            _row("H3-ack-in-chunks"),
            _row("H3-ack-without-end"),
        ),
    ),
    Rule(
        "H4",
        "only Fragment has a body",
        (f"{_PACKETS}::test_h4_only_fragments_have_a_body",),
        (f"{_UPLOAD}::test_4_4_close_and_cancel_name_the_session",),
    ),
    Rule(
        "H5",
        "header values of at most 4 KiB; unknown headers are ignored",
        (
            f"{_PACKETS}::test_h5_long_values_are_refused",
            f"{_PACKETS}::test_h5_a_head_without_end_is_not_read",
            f"{_APP}::test_h5_unknown_fields_are_ignored",
        ),
        (
            f"{_UPLOAD}::test_h5_unknown_fields_mean_nothing",
            _row("H5-unknown-fields-of-6-KiB"),
            _row("H5-head-of-10-MiB"),
        ),
    ),
    Rule(
        "H6",
        "persistent connections, of which sessions do not depend",
        (
            f"{_PROTOCOL}::test_h6_packets_follow_each_other_on_one_connection_and_may_come_at_once",
            f"{_SESSIONS}::test_a_restart_in_each_stage_loses_nothing",
        ),
        (
            f"{_WORKER}::test_h6_all_packets_of_a_step_go_over_one_connection",
            _row("H6-closed-after-each-ack"),
            _row("H6-closed-unannounced"),
        ),
    ),
    Rule(
        "H7",
        "an Ack is not cached",
        (f"{_APP}::test_h3_h7_the_ack_of_create_has_the_fields_of_3_1",),
    ),
    Rule(
        "H8",
        "Expect: 100-continue: the server checks first, the client waits for 2 s at most",
        (
            f"{_PROTOCOL}::test_h8_the_body_is_asked_for_when_everything_else_is_right",
            f"{_PROTOCOL}::test_h8_the_body_of_what_is_refused_is_not_asked_for",
            f"{_SESSIONS}::test_h8_what_is_refused_is_refused_before_the_body_is_asked_for",
            f"{_S}test_mounted.py::test_h8_nothing_is_read_of_a_body_that_is_refused",
            f"{_PROXIES}::test_h8_who_waits_for_100_continue_gets_it",
        ),
        (
            f"{_BODIES}::test_h8_only_a_large_body_waits_for_the_word_of_the_server",
            f"{_BODIES}::test_h8_a_server_without_a_word_gets_the_body_after_two_seconds_and_is_not_asked_again",
            _row("H8-100-never-sent"),
            _row("H8-417"),
        ),
    ),
    Rule(
        "H9",
        "a refused body is drained up to 64 KiB, or the connection is closed after the Ack",
        (
            f"{_PROTOCOL}::test_h9_after_a_small_refused_body_the_connection_goes_on",
            f"{_PROTOCOL}::test_h9_a_client_that_still_sends_a_large_refused_body_gets_the_answer",
            f"{_PROTOCOL}::test_h9_the_rest_of_a_body_is_drained_although_much_of_it_was_queued",
            f"{_PROXIES}::test_h9_a_fragment_that_is_refused_before_its_body_gets_its_answer",
        ),
        (
            f"{_BODIES}::test_h9_an_answer_before_the_end_of_the_body_reaches_who_asked",
            f"{_BODIES}::test_h9_what_a_refused_fragment_left_is_not_taken_for_the_next_packet",
            _row("H9-403-before-the-body"),
        ),
    ),
    Rule(
        "H10",
        "path and query, or absolute form; Host; no fragment",
        (
            f"{_APP}::test_h10_a_target_in_absolute_form_is_the_same_target",
            f"{_APP}::test_h10_a_request_without_a_host_is_refused",
            f"{_S}test_paths.py::test_h10_a_target_in_absolute_form_has_its_host_in_it",
        ),
        (f"{_WORKER}::test_h10_the_target_is_path_and_query_without_a_fragment",),
    ),
    Rule(
        "H11",
        "the verb has an underscore: it comes through",
        (
            f"{_S}test_mounted.py::test_h11_the_verb_comes_through_the_h11_of_uvicorn",
            f"{_PROXIES}::test_h13_fragments_of_13_mib_come_through",
        ),
        (f"{_WORKER}::test_h1_h2_every_packet_is_bits_post_over_http_1_1_with_a_length",),
    ),
    Rule(
        "H12",
        "POST with X-HTTP-Method-Override, where a directory allows it; Create-Session is answered with 201",
        (f"{_APP}::test_h12_d2_a_post_is_a_packet_where_the_directory_says_so",),
        (f"{_UPLOAD}::test_4_2_200_and_201_are_success",),
    ),
    Rule(
        "H13",
        "what stands before a server passes verb, Content-Range and fragments of 13 MiB",
        (f"{_PROXIES}::test_h13_fragments_of_13_mib_come_through",),
        (f"{_R}test_uploads_through_proxies.py::test_an_upload_to_a_server_behind_a_proxy",),
    ),
    Rule(
        "H14",
        "downloads: HEAD, GET, one range, validators that stay",
        (
            f"{_S}test_files.py::test_h14_a_range",
            f"{_S}test_files.py::test_h14_conditions",
            f"{_S}test_files.py::test_h14_validators_are_stable_and_change_with_the_file",
            f"{_S}test_files.py::test_h14_more_than_4_gib",
        ),
        (f"{_R}test_uploads.py::test_the_reply_is_there_before_complete_and_its_file_after",),
    ),
)
"""§2."""

FRAGMENTS: Final = (
    Rule(
        "F1",
        "a range that is none, another length, an encoding: 400",
        (
            f"{_HOSTILE}::test_f1_a_range_that_is_none_has_no_effect",
            f"{_HOSTILE}::test_f1_a_length_that_is_not_that_of_the_range_has_no_effect",
            f"{_HOSTILE}::test_f1_only_identity_is_understood",
            f"{_FRAGMENTS}::test_what_is_refused_says_which_byte_is_wanted[F1-body-shorter-than-range]",
        ),
        (f"{_UPLOAD}::test_4_3_a_fragment_says_which_part_it_is_and_of_which_session",),
    ),
    Rule(
        "F2",
        "another total: 400",
        (
            f"{_HOSTILE}::test_f2_another_total_has_no_effect_before_and_after_the_last_byte",
            f"{_FRAGMENTS}::test_what_is_refused_says_which_byte_is_wanted[F2-another-total]",
        ),
    ),
    Rule(
        "F3",
        "more than BITSMaximumUploadSize: 500, BG_E_TOO_LARGE",
        (
            f"{_HOSTILE}::test_f3_a_file_that_is_too_large_keeps_no_byte",
            f"{_FRAGMENTS}::test_f3_f4_limits_themselves_are_allowed",
        ),
        (f"{_ERRORS}::test_10_2_codes_that_are_fatal_whatever_the_status",),
    ),
    Rule(
        "F4",
        "a fragment that is too large: 413, and the client shrinks",
        (
            f"{_HOSTILE}::test_f4_a_fragment_that_is_too_large_is_refused_before_it_is_read",
            f"{_FRAGMENTS}::test_f3_f4_limits_themselves_are_allowed",
        ),
        (
            f"{_UPLOAD}::test_7_4_413_sends_half_of_it_from_the_same_byte",
            f"{_UPLOAD}::test_7_4_413_of_the_smallest_fragment_is_fatal",
        ),
    ),
    Rule(
        "F5",
        "the next bytes: appended",
        (
            f"{_SESSIONS}::test_f5_f12_d11_the_file_is_published_with_the_ack_of_the_final_fragment",
            f"{_HOSTILE}::test_f5_f8_single_bytes",
            f"{_RECEIVING}::test_f5_to_f9_any_history_of_fragments_gives_the_same_file",
        ),
        (f"{_UPLOAD}::test_7_2_as_far_as_was_sent",),
    ),
    Rule(
        "F6",
        "overlap: what is new is appended",
        (
            f"{_SESSIONS}::test_f6_d14_stored_bytes_are_never_rewritten",
            f"{_HOSTILE}::test_f5_f6_f7_f8_in_whatever_order_pieces_come_each_byte_is_kept_once",
        ),
        (f"{_UPLOAD}::test_d14_416_of_an_overlap_goes_on_where_the_server_is",),
    ),
    Rule(
        "F7",
        "all bytes known: 200; a notification that failed is tried again, an Ack is replayed",
        (
            f"{_SESSIONS}::test_f7_known_bytes_are_read_and_change_nothing",
            f"{_NOTIFIED}::test_s9_3_f7_another_refusal_is_tried_again_when_the_client_does",
            f"{_COMPLETION}::test_s9_3_a_refusal_has_status_and_code_of_the_application_and_the_final_fragment_tries_again",
        ),
        (_row("F7-ack-is-lost"), f"{_UPLOAD}::test_7_2_more_than_was_sent"),
    ),
    Rule(
        "F8",
        "a gap: 416 with the next byte wanted",
        (
            f"{_APP}::test_f8_416_has_the_code_zero",
            f"{_FRAGMENTS}::test_what_is_refused_says_which_byte_is_wanted[F8-gap-of-one-byte]",
            f"{_PROXIES}::test_f8_fragments_out_of_step_come_back_as_such_beyond_4_gib_too",
        ),
        (f"{_UPLOAD}::test_7_2_416_says_the_same",),
    ),
    Rule(
        "F9",
        "the connection breaks inside the body",
        (
            f"{_SESSIONS}::test_f9_d15_what_came_before_the_connection_broke_counts",
            f"{_HOSTILE}::test_f9_of_a_body_that_breaks_what_came_may_count_and_is_right",
            f"{_PROXIES}::test_f9_d15_what_came_before_the_line_was_cut_counts",
        ),
        (f"{_WORKER}::test_7_5_a_killed_worker_costs_one_fragment_at_most",),
    ),
    Rule(
        "F10",
        "disk full or quota: 500, ERROR_DISK_FULL",
        (
            f"{_H}test_pressure.py::test_f10_a_full_disk_keeps_what_it_has",
            f"{_RECEIVING}::test_f10_a_disk_that_fills_up_keeps_what_it_took",
            f"{_S}test_store.py::test_f10_the_quota_counts_totals_of_what_the_user_has_in_the_spool",
        ),
        (f"{_ERRORS}::test_10_2_a_full_disk_of_the_server_is_transient",),
    ),
    Rule(
        "F11",
        "an error of the disk: 500 with its code",
        (
            f"{_RECEIVING}::test_f11_what_could_not_be_synced_does_not_count",
            f"{_RECEIVING}::test_f11_a_later_success_does_not_make_lost_bytes_count",
            f"{_RECEIVING}::test_f11_an_upload_goes_on_after_the_disk_has_failed",
        ),
        (f"{_ERRORS}::test_10_2_any_other_code_is_the_error_and_the_status_its_class",),
    ),
    Rule(
        "F12",
        "the last byte completes",
        (f"{_SESSIONS}::test_f5_f12_d11_the_file_is_published_with_the_ack_of_the_final_fragment",),
        (f"{_UPLOAD}::test_7_1_a_small_file_is_three_round_trips",),
    ),
    Rule(
        "F13",
        "an empty file",
        (
            f"{_SESSIONS}::test_f13_d16_an_empty_file_is_published",
            f"{_HOSTILE}::test_f13_an_empty_file",
            f"{_FRAGMENTS}::test_what_is_appended[F13-D16-empty-file]",
        ),
        (f"{_UPLOAD}::test_d16_an_empty_file_is_one_fragment_of_nothing",),
    ),
)
"""§6."""

DECISIONS: Final = (
    Rule("D1", "an HTTP/1.0 packet: 400", (f"{_PACKETS}::test_d1_http_1_0_is_refused",)),
    Rule(
        "D2",
        "the override of the method is off unless a directory allows it",
        (f"{_APP}::test_h12_d2_a_post_is_a_packet_where_the_directory_says_so",),
    ),
    Rule(
        "D3",
        "no session id on Ping; ignored if it is there",
        (f"{_APP}::test_d3_a_session_id_on_ping_is_ignored",),
        (f"{_UPLOAD}::test_7_1_an_old_session_is_pinged_first_and_goes_on_where_it_was",),
    ),
    Rule(
        "D4",
        "every Ack of a session names it; a client does not need it, another id is invalid",
        (f"{_APP}::test_d4_every_ack_of_a_session_names_it",),
        (
            f"{_UPLOAD}::test_d4_an_answer_need_not_name_the_session",
            f"{_UPLOAD}::test_d4_another_session_id_is_invalid",
            _row("D4-other-session-in-ack"),
        ),
    ),
    Rule(
        "D5",
        "a port in the host id",
        (f"{_S}test_replies.py::test_s12_d5_the_host_id_takes_the_place_of_the_host",),
        (f"{_HOSTS}::test_d5_a_port_in_the_host_id_is_taken", _row("D5-host-with-port")),
    ),
    Rule(
        "D6",
        "BITS-Error-Code and BITS-Error are both sent, and both read",
        (_ORDER,),
        (f"{_ERRORS}::test_d6_both_names_of_the_code_are_read_and_the_longer_one_first",),
    ),
    Rule(
        "D7",
        "BITS-Protocol may be missing",
        (),
        (f"{_UPLOAD}::test_d7_no_protocol_in_the_answer_is_tolerated", _row("D7-create-without-protocol")),
    ),
    Rule(
        "D8",
        "a session is of one URL, one directory and one user; the host may differ",
        (
            f"{_H}test_names.py::test_d8_a_session_is_of_its_url_its_folder_and_its_user",
            f"{_S}test_session_stages.py::test_d8_anything_else_may_not",
            f"{_S}test_session_stages.py::test_d8_the_host_part_may_differ",
        ),
        (f"{_R}test_upload_identities.py::test_an_administrator_who_takes_an_upload_sends_it_anew",),
    ),
    Rule(
        "D9",
        "packets of one session take turns; who waits too long gets 503",
        (
            f"{_SESSIONS}::test_d9_a_second_request_waits_for_the_first",
            f"{_SESSIONS}::test_d9_who_waits_too_long_is_sent_away_and_a_body_that_comes_is_left_alone",
            f"{_HOSTILE}::test_d9_one_fragment_at_a_time_however_many_connections_send_it",
        ),
    ),
    Rule(
        "D10",
        "the spool is outside the served tree",
        (f"{_S}test_settings.py::test_d10_the_spool_is_outside_the_served_tree_by_default",),
    ),
    Rule(
        "D11",
        "published with the final fragment, or at Close",
        (
            f"{_SESSIONS}::test_f5_f12_d11_the_file_is_published_with_the_ack_of_the_final_fragment",
            f"{_SESSIONS}::test_d11_commit_at_close",
            f"{_COMPLETION}::test_d11_with_commit_at_close_the_copy_waits_for_close",
        ),
    ),
    Rule(
        "D12",
        "an existing file: 403 unless BITSAllowOverwrites",
        (
            f"{_SESSIONS}::test_d12_an_existing_file_is_refused_at_create_and_again_at_commit",
            f"{_S}test_storage.py::test_d12_an_existing_file_is_replaced_at_once_if_that_is_allowed",
            f"{_S}test_storage.py::test_d12_overwrites_replace_files_alone",
        ),
        (f"{_ERRORS}::test_10_2_409_is_fatal_on_create_and_transient_elsewhere",),
    ),
    Rule(
        "D13",
        "a repeated Close or Cancel: 200 for an hour; a client takes SESSION_NOT_FOUND for success",
        (
            f"{_SESSIONS}::test_d13_a_repeated_end_is_a_success_for_the_same_sender_for_an_hour",
            f"{_S}test_store.py::test_d13_there_are_at_most_ten_thousand_tombstones_and_the_oldest_go",
        ),
        (
            f"{_UPLOAD}::test_d13_a_session_that_is_gone_is_closed_and_cancelled",
            _row("D13-close-session-not-found"),
        ),
    ),
    Rule(
        "D14",
        "an overlap is trimmed; a client understands 416 too",
        (
            f"{_SESSIONS}::test_f6_d14_stored_bytes_are_never_rewritten",
            f"{_FRAGMENTS}::test_what_is_appended[F6-D14-overlap]",
        ),
        (f"{_UPLOAD}::test_d14_416_of_an_overlap_goes_on_where_the_server_is",),
    ),
    Rule(
        "D15",
        "what came of a broken body is kept",
        (
            f"{_SESSIONS}::test_f9_d15_what_came_before_the_connection_broke_counts",
            f"{_S}test_mounted.py::test_f9_d15_what_came_before_the_client_went_is_kept",
        ),
    ),
    Rule(
        "D16",
        "an empty file is bytes */0",
        (f"{_FRAGMENTS}::test_what_is_appended[F13-D16-empty-file]",),
        (
            f"{_UPLOAD}::test_d16_an_empty_file_is_one_fragment_of_nothing",
            f"{_UPLOAD}::test_d16_a_server_that_does_not_know_empty_files_is_http_error_400",
        ),
    ),
    Rule(
        "D17",
        "200 without an offset has taken everything",
        (),
        (
            f"{_UPLOAD}::test_d17_200_without_an_offset_has_taken_all_of_it",
            _row("D17-ack-without-offset", "resume"),
        ),
    ),
    Rule(
        "D18",
        "two minutes in which no byte is taken, not two minutes in all",
        (),
        (
            f"{_BODIES}::test_d18_a_server_that_takes_no_byte_is_given_up",
            f"{_BODIES}::test_d18_a_slow_server_is_not_given_up_while_it_takes_something",
        ),
    ),
    Rule(
        "D19",
        "upload-reply without a reply: an empty one; strictly an error",
        (
            f"{_COMPLETION}::test_d19_an_absent_or_empty_reply_is_no_reply",
            f"{_NOTIFIED}::test_d19_an_application_that_says_nothing_gives_no_reply",
        ),
        (
            f"{_R}test_uploads.py::test_d19_without_a_reply_there_is_none",
            f"{_UPLOAD}::test_d19_strictly_it_is_fatal",
        ),
    ),
    Rule(
        "D20",
        "a relative reply URL: at the host id, then at the origin",
        (),
        (
            f"{_R}test_uploads.py::test_d20_a_reply_that_is_not_at_the_host_id_is_looked_for_at_the_origin",
            "tests/service/test_reply_urls.py::test_d20_what_is_not_at_the_host_id_is_looked_for_once_at_the_origin",
        ),
    ),
    Rule(
        "D21",
        "applications over https, and at Unix sockets",
        (
            f"{_N}test_application_url.py::test_s9_2_d21_an_absolute_url_is_used_as_it_is",
            f"{_N}test_backend.py::test_d21_an_application_behind_https_is_verified",
        ),
    ),
    Rule(
        "D22",
        "an application that is not there: 503 with the code of what happened",
        (
            f"{_N}test_backend.py::test_d22_a_refused_connection_is_503",
            f"{_N}test_backend.py::test_d22_an_unknown_name_is_503",
        ),
    ),
    Rule(
        "D23",
        "who we are for an application, and X-BITS-User",
        (
            f"{_N}test_authorization.py::test_d23_the_authorization_is_read_from_a_file",
            f"{_N}test_authorization.py::test_d23_negotiate_uses_the_tickets_of_the_service",
            f"{_N}test_notify.py::test_d23_the_application_is_told_who_has_uploaded",
        ),
    ),
    Rule(
        "D24",
        "no redirects but 307 and 308 to the same server on Ping and Create-Session",
        (),
        (
            _row("D24-Create-Session-307-same-authority"),
            _row("D24-Fragment-307-same-authority"),
            _row("D24-Create-307-for-ever"),
        ),
    ),
    Rule(
        "D25",
        "200 of a stranger: transient three times, then fatal",
        (),
        (
            f"{_UPLOAD}::test_d25_200_of_somebody_who_is_no_upload_server_is_invalid",
            f"{_WORKER}::test_d25_three_invalid_answers_are_transient_and_the_fourth_is_fatal",
        ),
    ),
    Rule(
        "D26",
        "503 to Create-Session above twice the limit",
        (
            f"{_SESSIONS}::test_d26_create_is_refused_above_twice_the_limit_of_a_user_and_above_that_of_all",
            f"{_S}test_store.py::test_d26_limits_count_sessions_of_the_user_in_the_directory_and_of_all",
        ),
    ),
    Rule(
        "D27",
        "credentials follow to a host id over https, or inside the domain",
        (),
        (
            f"{_HOSTS}::test_d27_who_may_know_who_we_are",
            f"{_WORKER}::test_d27_the_job_proves_itself_to_another_host_only_where_that_is_safe",
        ),
    ),
    Rule(
        "D28",
        "X-BITS-SHA256 on the Ack of Close-Session, if it is wanted",
        (f"{_SESSIONS}::test_d28_the_checksum_of_what_was_received_comes_with_close",),
    ),
    Rule(
        "D29",
        "a longer wait for the last Ack of an upload-reply; who asks again causes no second notification",
        (
            f"{_NOTIFIED}::test_d29_a_client_that_gave_up_and_asks_again_causes_no_second_notification",
            f"{_COMPLETION}::test_d29_a_client_that_gave_up_and_sends_again_meets_the_same_notification",
        ),
        (
            f"{_UPLOAD}::test_d29_the_last_fragment_waits_for_the_application_and_so_does_the_first_after_a_break",
            f"{_BODIES}::test_d29_the_answer_may_take_as_long_as_the_question_says",
        ),
    ),
)
"""§15."""

OPEN: Final = (
    Rule(
        "0x80070112",
        "disk full is 0x80070070, a time-out of the application 0x80070112; a client takes both",
        (
            f"{_RECEIVING}::test_f10_a_disk_that_fills_up_keeps_what_it_took",
            f"{_N}test_backend.py::test_s7_3_an_application_that_says_nothing_is_408",
        ),
        (f"{_ERRORS}::test_10_2_a_full_disk_of_the_server_is_transient",),
    ),
    Rule(
        "411",
        "no Content-Length: 411; a client takes 400, too",
        (f"{_PACKETS}::test_h2_a_packet_without_length_is_refused",),
        (_row("10.2-Fragment-bare-411"), _row("10.2-Fragment-bare-400")),
    ),
    Rule(
        "BG_E_TOO_LARGE",
        "the file: 500 with the code; the fragment: 413",
        (
            f"{_FRAGMENTS}::test_what_is_refused_says_which_byte_is_wanted[F3-file-too-large]",
            f"{_FRAGMENTS}::test_what_is_refused_says_which_byte_is_wanted[F4-fragment-too-large]",
        ),
    ),
    Rule(
        "session limit",
        "a clean-up leaves as many sessions as the limit says",
        (f"{_S}test_cleanup.py::test_d26_the_most_recent_sessions_above_the_limit_go_and_the_limit_itself_stays",),
    ),
    Rule(
        "0x8020001B",
        "transient three times, then fatal",
        (),
        (f"{_UPLOAD}::test_d25_the_fourth_invalid_answer_in_a_row_is_fatal_over_all_attempts",),
    ),
    Rule(
        "501",
        "uploads that are off: 501; what a client says of it holds for 404, too",
        (f"{_ORDER}[3 enabled]",),
        (f"{_R}test_put.py::test_a_web_server_that_knows_no_uploads_is_told_from_one_that_refuses",),
    ),
)
"""§15, the last rows."""

CHECKS: Final = (
    Rule("1", "framing, version, header size", (f"{_ORDER}[1 version]", f"{_ORDER}[1 header size]")),
    Rule("2", "virtual directory exists", (f"{_ORDER}[2 directory]",)),
    Rule("3", "uploads enabled", (f"{_ORDER}[3 enabled]",)),
    Rule("4", "authentication", (f"{_ORDER}[4 wrong password]", f"{_APP}::test_step_4_asks_who_it_is")),
    Rule(
        "5",
        "authorisation",
        (f"{_ORDER}[5 user]", f"{_ORDER}[5 path]", f"{_APP}::test_step_5_lets_those_in_who_are_allowed"),
    ),
    Rule("6", "execution enabled: no case, as nothing is ever run"),
    Rule("7", "Content-Length", (f"{_ORDER}[7 length]",)),
    Rule("8", "packet type", (f"{_ORDER}[8 type]", f"{_PACKETS}::test_5_1_step_8_there_is_no_such_packet")),
    Rule(
        "9",
        "required headers",
        (f"{_ORDER}[9 protocols]", f"{_ORDER}[9 session id]", f"{_ORDER}[9 range]"),
    ),
    Rule(
        "10",
        "the session is there, and his",
        (
            f"{_ORDER}[10 session]",
            f"{_APP}::test_step_10_the_session_of_another_user_is_unknown",
            f"{_SESSIONS}::test_step_10_an_expired_session_is_not_found_even_before_the_clean_up",
        ),
    ),
    Rule("11", "one request of a session at a time", (f"{_SESSIONS}::test_d9_a_second_request_waits_for_the_first",)),
)
"""§5.1: steps in their order; each cell sends a packet that is wrong in that step and in a later one."""

CHECKLIST: Final = (
    Rule(
        "restart",
        "in each state",
        (
            f"{_SESSIONS}::test_a_restart_in_each_stage_loses_nothing",
            f"{_S}test_kill.py::test_the_client_goes_on_after_a_death_at",
            f"{_S}test_power_cut.py::test_s6_after_a_power_cut_the_client_goes_on",
        ),
        (f"{_R}test_uploads.py::test_kill_9",),
    ),
    Rule(
        "beyond 4 GiB",
        "offsets",
        (
            f"{_FRAGMENTS}::test_what_is_appended[F5-beyond-4-GiB]",
            f"{_SESSIONS}::test_f5_offsets_beyond_4_gib_are_written_and_told",
        ),
        (f"{_UPLOAD}::test_7_1_the_whole_file_in_order_without_a_gap",),
    ),
    Rule(
        "GUID lists",
        "commas, spaces, upper case; 201 and 200",
        (f"{_APP}::test_3_2_protocols_come_in_many_spellings_and_are_echoed_in_one",),
        (f"{_UPLOAD}::test_3_2_the_protocol_in_any_spelling", f"{_UPLOAD}::test_4_2_200_and_201_are_success"),
    ),
    Rule(
        "fragments",
        "of one byte, of 13 MiB, of many sessions at once",
        (
            f"{_HOSTILE}::test_f5_f8_single_bytes",
            f"{_PROXIES}::test_h13_fragments_of_13_mib_come_through",
            f"{_SESSIONS}::test_many_sessions_at_once",
        ),
        (f"{_SIZES}::test_none_has_more_than_13_mib",),
    ),
    Rule(
        "offsets",
        "every row of §7.2; a misspelled header",
        (),
        (
            f"{_UPLOAD}::test_7_2_part_of_it",
            f"{_UPLOAD}::test_7_2_back_to_what_the_server_still_has",
            f"{_UPLOAD}::test_7_2_more_than_was_sent",
            f"{_UPLOAD}::test_7_2_what_is_no_byte_of_the_file_is_invalid",
            f"{_UPLOAD}::test_7_2_416_without_an_offset_is_invalid",
            f"{_UPLOAD}::test_7_2_the_same_byte_three_times_in_a_row_is_no_progress",
            f"{_UPLOAD}::test_3_2_the_misspelled_field_is_understood",
        ),
    ),
    Rule(
        "host id",
        "and the way back",
        (f"{_APP}::test_h3_h7_the_ack_of_create_has_the_fields_of_3_1",),
        (
            f"{_FALLBACK}::test_12_after_create_the_host_is_pinged_and_gets_the_fragments",
            f"{_FALLBACK}::test_7_3_after_it_the_origin_is_asked_with_the_same_session",
            _row("12-host-unreachable-falls-back"),
        ),
    ),
    Rule(
        "reply URL",
        "absolute, relative, with back-slashes",
        (f"{_S}test_replies.py::test_s8_3_it_is_absolute_and_percent_encoded_and_has_no_query",),
        (f"{_HOSTS}::test_8_3_a_reply_url_is_made_absolute_against_where_the_fragment_was_sent",),
    ),
    Rule(
        "forgetting",
        "a server that does",
        (f"{_S}test_cleanup.py::test_expired_sessions_go_with_their_files_and_published_files_stay",),
        (f"{_WORKER}::test_7_1_a_forgotten_session_is_told_and_begun_again", _row("7.1-server-forgets-for-ever")),
    ),
    Rule(
        "hostile peer",
        "of either side, to real sockets",
        (f"{_H}test_pressure.py::test_13_heads_that_never_end_hold_up_nobody",),
        (f"{_T}test_upload_misbehaviours.py::test_an_upload_server_misbehaves",),
    ),
    Rule(
        "interruptions",
        "both ends killed at random bytes",
        ("tests/campaigns/test_interruptions.py::test_an_interrupted_upload_arrives_once_and_whole",),
        ("tests/campaigns/test_interruptions.py::test_an_interrupted_upload_arrives_once_and_whole",),
    ),
)
"""§14."""

NUMBERED: Final = (*REQUIREMENTS, *FRAGMENTS, *DECISIONS)
"""Of each of these at least one test has the number in its name."""

RULES: Final = (*NUMBERED, *OPEN, *CHECKS, *CHECKLIST)
