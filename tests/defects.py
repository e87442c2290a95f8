"""Deliberate faults, each of which a test must catch: `make campaign-defects` (reliability.md §4, mutation check).

Every row changes one place of the sources in a private copy and runs the tests that are meant to notice. A fault that
they do not notice is a hole in the tests. docs/defects.md is this table in words.
"""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "defects.md"
HEAD = """# Seeded defects

What would go wrong silently, and the tests that notice. `make campaign-defects` puts each fault into a copy of the
sources, one at a time, and runs these tests: all must fail. This page is `python -m tests.defects page`.

| Defect | Place | Caught by |
|---|---|---|
"""


@dataclass(frozen=True)
class Defect:
    """In `file` below src/openbits the text `old`, which is there once, becomes `new`; `tests` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_ABANDONING = "tests/core/test_abandoning.py"
_PUBLISH = "tests/identity/test_paths_publish.py"
_TEMPORARY = "tests/identity/test_paths_temporary.py"
_CONFINEMENT = "tests/real/test_worker_confinement.py"
_COMMANDS = "tests/identity/spawner/test_commands.py"
_ENTRUSTED = "tests/real/test_entrusted.py"
_HELPER = "tests/real/test_authentication.py::TestHelper"
_CERTIFICATES = "tests/real/test_client_certificates.py::TestNetworkIdentity"
_SERVERS = "tests/transfer/test_worker_certificates.py"
_CALLBACK = "tests/service/test_certificate_checks.py"
_SETTING = "tests/core/test_property_states.py"
_REVOCATION = "tests/transfer/test_worker_revocation.py"
_PERSONAL = "tests/identity/test_personal.py"
_SUITE = "tests/transfer/test_conformance.py"
_PARTS = "tests/transfer/test_parts.py"
_SYNCING = "tests/transfer/test_syncing.py"
_LADDER = "tests/transfer/test_auth_ladder.py"
_MATRIX = "tests/transfer/test_credential_matrix.py"
_SERVER = "tests/server/test_app.py"
_SESSIONS = "tests/server/test_sessions.py"
_COMPLETION = "tests/server/test_completion.py"
_POWER_CUT = "tests/server/test_power_cut.py"
_UPLOADS = "tests/transfer/test_worker_uploads.py"

DEFECTS: tuple[Defect, ...] = (
    Defect(
        "data not synced before the file gets its final name",
        "identity/paths.py",
        "            os.fsync(file_fd)\n",
        "            pass\n",
        (f"{_PUBLISH}::test_data_and_metadata_are_durable_before_the_name_and_the_name_before_the_answer",),
    ),
    Defect(
        "directory not synced after the rename",
        "identity/paths.py",
        '            _sync_directory(dir_fd)\n        failpoint("publish.directory-synced")\n',
        "            pass\n",
        (f"{_PUBLISH}::test_data_and_metadata_are_durable_before_the_name_and_the_name_before_the_answer",),
    ),
    Defect(
        "temporary not checked again before the rename",
        "identity/paths.py",
        "        _check_ours(statx(dir_fd, temporary.name), temporary, temporary_path)\n",
        "",
        (f"{_PUBLISH}::test_a_file_that_takes_the_name_of_the_temporary_at_the_last_moment_is_not_published",),
    ),
    Defect(
        "temporary recognised by device and inode alone",
        "identity/paths.py",
        "(found.dev, found.ino, found.birth_ns) == (temporary.dev, temporary.ino, temporary.birth_ns)",
        "(found.dev, found.ino) == (temporary.dev, temporary.ino)",
        (f"{_TEMPORARY}::test_device_inode_birth_and_owner_must_all_agree",),
    ),
    Defect(
        "directory not compared with the one of AddFile",
        "identity/paths.py",
        "        if found.ino != directory.ino:\n            raise moved(directory.path)\n",
        "",
        ("tests/identity/test_paths.py",),
    ),
    Defect(
        "symlinks followed on the way to a directory that was fixed",
        "identity/filecalls.py",
        "    if not follow:\n        resolve |= _RESOLVE_NO_SYMLINKS\n",
        "",
        ("tests/identity/test_filecalls.py::test_no_opener_follows_a_symlink_in_any_component",),
    ),
    Defect(
        "existing file opened instead of a new temporary",
        "identity/paths.py",
        "    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY\n",
        "    flags = os.O_CREAT | os.O_NOFOLLOW | os.O_WRONLY\n",
        ("tests/identity/test_paths.py::test_a_name_that_is_taken_is_never_reused",),
    ),
    Defect(
        "missing setgroups in the start of a child",
        "identity/drop.py",
        "    os.setgroups(groups)\n    os.setresgid(gid, gid, gid)\n    os.setresuid(uid, uid, uid)\n"
        "    if os.getresgid() != (gid,) * 3 or set(os.getgroups()) != set(groups):\n",
        "    os.setresgid(gid, gid, gid)\n    os.setresuid(uid, uid, uid)\n    if os.getresgid() != (gid,) * 3:\n",
        (f"{_CONFINEMENT}::test_t11_each_process_has_one_identity_and_no_privilege",),
    ),
    Defect(
        "capability bounding set kept",
        "identity/drop.py",
        '            _call("prctl", _CAPBSET_DROP, capability, 0, 0, 0)\n',
        "            pass\n",
        (f"{_CONFINEMENT}::test_t11_each_process_has_one_identity_and_no_privilege",),
    ),
    Defect(
        "child may gain privileges by setuid programs",
        "identity/drop.py",
        '    _call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)\n',
        "",
        (f"{_CONFINEMENT}::test_t11_each_process_has_one_identity_and_no_privilege",),
    ),
    Defect(
        "child outlives its parent",
        "identity/drop.py",
        "    end_with(parent)  # the change of uid would have cleared it\n",
        "",
        (f"{_CONFINEMENT}::test_t11_everything_dies_with_its_parent",),
    ),
    Defect(
        "memory of a child open to its own user",
        "identity/drop.py",
        '    _call("prctl", _DUMPABLE, 0, 0, 0, 0)\n',
        '    _call("prctl", _DUMPABLE, 1, 0, 0, 0)\n',
        (f"{_CONFINEMENT}::test_t11_not_even_its_own_user_looks_inside",),
    ),
    Defect(
        "spawner starts a child for any uid that the manager names",
        "identity/registry.py",
        '        if not is_admitted:\n            raise RefusedError("not-admitted"',
        '        if uid < 0:\n            raise RefusedError("not-admitted"',
        (f"{_CONFINEMENT}::test_the_running_spawner_refuses_its_own_manager_a_uid_it_has_not_seen",),
    ),
    Defect(
        "connection of one user vouches for another",
        "identity/registry.py",
        '        if voucher is not None and voucher["uid"] == uid:\n',
        "        if voucher is not None:\n",
        ("tests/identity/test_registry.py::test_nobody_vouches_for_another",),
    ),
    Defect(
        "spawner starts a command that its user has not set",
        "identity/spawner.py",
        "if uid == 0 or (recorded := self._state.admitted.open(uid, command)) is None:",
        "if uid == 0 or (recorded := self._state.admitted.open(uid, command) or os.open(os.devnull, 0)) is None:",
        (
            f"{_COMMANDS}::TestWhatIsAllowed::test_an_admitted_owner_who_is_not_connected_gets_no_new_command",
            "tests/real/test_commands.py::test_a_manager_that_was_taken_over_runs_what_was_set_and_nothing_else",
        ),
    ),
    Defect(
        "command run as root",
        "identity/spawner.py",
        "if uid == 0 or (recorded :=",
        "if uid < 0 or (recorded :=",
        (f"{_COMMANDS}::TestWhatIsAllowed::test_no_command_is_run_as_root_even_if_one_is_recorded",),
    ),
    Defect(
        "root has a command recorded for another user",
        "identity/spawner.py",
        """        if uid == 0 or voucher["uid"] != uid or self._uid not in (0, uid):\n""",
        """        if uid == 0 or voucher["uid"] not in (0, uid) or self._uid not in (0, uid):\n""",
        (f"{_COMMANDS}::TestWhatIsAllowed::test_its_user_alone_has_a_command_recorded",),
    ),
    Defect(
        "recorded command not on the disk before the answer",
        "identity/statedir.py",
        """        failpoint("command.allowed")\n        os.fsync(self._folder)\n""",
        """        failpoint("command.allowed")\n""",
        ("tests/identity/test_admitted.py::test_an_allowed_command_is_on_the_disk_before_the_answer",),
    ),
    Defect(
        "runner believes the manager what to run",
        "identity/runner.py",
        """    if commandline.name(order["job_id"], program, parameters) != allowed:\n""",
        "    if not allowed:\n",
        (
            f"{_COMMANDS}::TestWhatIsRun::test_another_text_than_the_recorded_one_is_not_run",
            "tests/real/test_commands.py::test_a_manager_that_was_taken_over_runs_what_was_set_and_nothing_else",
        ),
    ),
    Defect(
        "manifest of a class believed whoever wrote it",
        "identity/runner.py",
        "status.st_uid not in {0, os.getuid()} or status.st_mode & 0o022",
        "False",
        (f"{_COMMANDS}::TestClasses::test_a_manifest_that_others_may_have_written_is_not_believed",),
    ),
    Defect(
        "process group of a command left behind",
        "identity/runner.py",
        "        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the number is nobody else's\n",
        "        os.kill(process.pid, signal.SIGKILL)\n",
        (f"{_COMMANDS}::TestHowItEnds::test_nothing_of_its_group_is_left",),
    ),
    Defect(
        "command kept after the job has it no more",
        "core/lifecycle.py",
        "    if given_up:\n        effects.append(events.ForgetCommands(given_up))\n",
        "",
        (
            "tests/core/test_command_lines.py::test_another_command_replaces_it",
            "tests/real/test_commands.py::test_take_ownership_takes_the_command_away",
        ),
    ),
    Defect(
        "command run while its user is not logged on",
        "service/commands.py",
        "        if not self._is_logged_on(command.setter.uid):\n            return f",
        "        if False:\n            return f",
        ("tests/service/test_commands.py::test_it_waits_for_the_logon_of_its_setter_and_ends_with_his_log_off",),
    ),
    Defect(
        "process of another user namespace vouches for its outer uid",
        "identity/registry.py",
        '        if entry.record.get("is_foreign_userns"):\n',
        "        if False:\n",
        ("tests/identity/test_registry.py::test_another_user_namespace_vouches_for_nobody_and_lends_no_groups",),
    ),
    Defect(
        "token made at a level above that of its origin",
        "identity/registry.py",
        '        if not 1 <= level <= record.get("level", 4):\n',
        "        if not 1 <= level <= 4:\n",
        ("tests/identity/spawner/test_tokens.py",),
    ),
    Defect(
        "skipped check of who listens on the socket",
        "api/connection.py",
        "            _judge_listener(path, sock)\n",
        "",
        ("tests/api/test_connection.py::test_a_listener_of_a_stranger_gets_no_byte",),
    ),
    Defect(
        "everybody may open every job",
        "core/access.py",
        "    Verb.OPEN_JOB: Rule.OWNER_OR_ADMINISTRATOR,\n",
        "    Verb.OPEN_JOB: Rule.ANYONE,\n",
        ("tests/real/test_identity_rules.py::test_a_foreign_job_is_denied_and_nothing_of_it_disclosed",),
    ),
    Defect(
        "helper with the rights of root accepted from an ordinary owner",
        "core/access.py",
        "    if privilege and not is_administrator(caller, settings):\n",
        "    if False:\n",
        ("tests/real/test_identity_rules.py::test_t2_the_eight_outcomes",),
    ),
    Defect(
        "owner instead of helper opens the local files",
        "core/access.py",
        "    Use.DOWNLOAD_TEMPORARY:        (_O, _H, _O, _H),\n",
        "    Use.DOWNLOAD_TEMPORARY:        (_O, _O, _O, _O),\n",
        ("tests/real/test_main_job.py::test_t1_each_resource_is_opened_by_the_identity_of_the_table",),
    ),
    Defect(
        "waiters told before their commit",
        "store/writer.py",
        "                self._store.commit([change for submission in batch for change in submission.changes])\n",
        "                for submission in batch:\n                    submission.done.set_result(None)\n"
        "                self._store.commit([change for submission in batch for change in submission.changes])\n",
        ("tests/store/test_writer.py::test_futures_are_done_in_the_order_of_submission_and_after_the_commit",),
    ),
    Defect(
        "commits not synced to the disk",
        "store/sqlite.py",
        '    connection.execute("PRAGMA synchronous = FULL")\n',
        '    connection.execute("PRAGMA synchronous = NORMAL")\n',
        ("tests/store/test_sqlite.py::test_a_commit_is_synchronous_and_keeps_references_whole",),
    ),
    Defect(
        "bytes counted as durable before their sync",
        "transfer/sink.py",
        "            self.position += len(data)\n",
        "            self.position += len(data)\n            self.durable = self.position\n",
        ("tests/transfer/test_sink.py::test_bytes_are_durable_when_their_sync_ended_and_not_before",),
    ),
    Defect(
        "effects begun before their commit",
        "service/engine.py",
        "        committed = asyncio.wrap_future(self._writer.submit(changes))\n",
        "        for effect in effects:\n            self.hands.carry_out(record, effect)\n        effects = ()\n"
        "        committed = asyncio.wrap_future(self._writer.submit(changes))\n",
        ("tests/service/test_engine.py::test_nothing_is_started_or_answered_before_it_is_on_the_disk",),
    ),
    Defect(
        "number left out of the event stream",
        "service/engine.py",
        "            seq=self.stream.next_seq(),\n",
        "            seq=self.stream.next_seq() + (kind == 'state'),\n",
        ("tests/service/test_engine.py::test_event_numbers_have_no_gap_and_go_to_the_store_with_their_step",),
    ),
    Defect(
        "job told before its files",
        "core/notices.py",
        "    if job.untold_files:\n",
        "    if job.untold_files and job.pending_notice is None:\n",
        (
            "tests/core/test_notices.py::test_files_come_before_the_job_in_the_order_in_which_they_finished",
            "tests/service/test_notify.py::test_files_are_told_one_after_the_other_and_before_the_job",
        ),
    ),
    Defect(
        "no limit of notices in flight",
        "service/shares.py",
        "        if self._taken[uid] < IN_FLIGHT:\n",
        "        if True:\n",
        ("tests/service/test_notify.py::test_four_notices_are_in_flight_for_a_user_and_the_fifth_waits_for_an_answer",),
    ),
    Defect(
        "TLS connection that nobody checked",
        "transfer/tls_gate.py",
        "        elif refusal is not None:\n",
        "        elif refusal is not None and peer in self._open:\n",
        ("tests/transfer/test_worker_tls.py::test_no_tls_connection_is_made_for_a_job_that_nobody_could_check_for",),
    ),
    Defect(
        "token kept after the log-off of the owner",
        "service/tokens.py",
        "            if record.helper_token is not None and record.job.owner.uid in change.logged_off:\n",
        "            if False:\n",
        ("tests/real/test_sessions.py::test_t6_log_off_ends_the_tokens_and_a_new_one_goes_on_at_the_same_byte",),
    ),
    Defect(
        "token kept after the end of its session",
        "service/tokens.py",
        "                self._link.end_token(cookie)\n",
        "                pass\n",
        ("tests/real/test_sessions.py::test_t7_the_end_of_its_session_ends_a_token_for_everybody",),
    ),
    Defect(
        "next file begun before the last byte of the one before it",
        "transfer/turns.py",
        "len(line.moving) + len(line.restarted) < line.at_a_time",
        "line.at_a_time",
        (
            "tests/transfer/test_turns.py::test_one_after_the_other_in_the_order_they_came",
            "tests/real/test_many_files.py::test_one_after_the_other_although_the_next_one_is_prepared",
        ),
    ),
    Defect(
        "failure told before the ends of whole files",
        "transfer/turns.py",
        "        if not line.saving:\n",
        "        if line.held_back:\n",
        ("tests/transfer/test_turns.py::test_a_failure_is_told_after_the_files_that_only_wait_for_the_disk",),
    ),
    Defect(
        "destination that was written to directly removed by Cancel",
        "core/lifecycle.py",
        " and not file.is_placed",
        "",
        ("tests/real/test_many_files.py::test_cancel_leaves_what_was_written_straight_into_the_destination",),
    ),
    Defect(
        "job goes on as its owner after a restart took its token",
        "core/news.py",
        "    if job.helper_token_flags and job.had_helper_token and job.state.is_unfinished:\n",
        "    if False:\n",
        ("tests/real/test_main_job.py::test_t8_the_end_of_the_service_ends_the_token_and_keeps_the_flags",),
    ),
    Defect(
        "path rename in the manager",
        "service/publishing.py",
        "        async with record.filing:\n            error, lost_file = await self._publish_all(record)\n",
        "        async with record.filing:\n            for file in record.job.files:\n"
        "                if file.temporary is not None:\n                    try:\n"
        '                        names = f"{file.directory.path}/{file.temporary.name}", file.local_name\n'
        '                        __import__("os").rename(*names)\n'
        "                    except OSError:\n                        pass\n"
        "            error, lost_file = await self._publish_all(record)\n",
        ("tests/real/test_strace.py::test_only_the_broker_of_a_user_makes_calls_on_paths_of_that_user",),
    ),
    Defect(
        "resumed download not guarded by the version of its bytes",
        "transfer/version.py",
        "for value in (*tag, *dated)",
        "for value in ()",
        ("tests/transfer/test_version.py::test_the_ladder_goes_from_the_strong_tag_over_the_date_to_the_whole_file",),
    ),
    Defect(
        "parts of a file asked for without the condition of its version",
        "transfer/ranged.py",
        'return () if value is None else (("If-Range", value),)',
        "return ()",
        (f"{_PARTS}::test_a_file_of_ranges_goes_on_at_any_byte",),
    ),
    Defect(
        "part of another version taken for one of this file",
        "transfer/ranged.py",
        "        other = self._other(lane, seen)\n        if other is not None:\n"
        "            return other\n        if boundary",
        "        if boundary",
        (f"{_PARTS}::test_a_part_of_another_version_is_not_taken_although_the_condition_was_ignored",),
    ),
    Defect(
        "part that was not asked for written to the file",
        "transfer/ranged.py",
        "        last, stretch = self._asked.get(part.first, (-1, None))\n"
        "        if stretch is None or part.last > last or stretch.position != part.first:\n",
        "        last, stretch = next(iter(self._asked.values()))\n        if False:\n",
        (f"{_PARTS}::test_a_server_that_answers_otherwise_still_delivers",),
    ),
    Defect(
        "parts told before they are on the disk",
        "transfer/lanes.py",
        "start, self._told = self._told, self.region.durable",
        "start, self._told = self._told, self.region.position",
        (f"{_PARTS}::test_no_part_counts_before_it_is_on_the_disk",),
    ),
    Defect(
        "data that one of many files lost not looked for after a sync of all",
        "transfer/syncing.py",
        "            return [_loss(waiting.descriptor) for waiting in batch]\n",
        "            return [None] * len(batch)\n",
        (f"{_SYNCING}::test_what_was_lost_before_the_others_were_opened_is_told_of_the_file_that_lost_it",),
    ),
    Defect(
        "end of a file told before its last bytes are on the disk",
        "transfer/saving.py",
        "            self._sink.flush(self._saved)\n",
        "            self._saved()\n",
        (f"{_SUITE}::test_nothing_counts_before_it_is_on_the_disk",),
    ),
    Defect(
        "bytes that the row counts cut by the worker",
        "transfer/http.py",
        "if isinstance(decision, Restart) and self._sink.durable > 0:",
        "if isinstance(decision, Restart) and self._sink.durable < 0:",
        (f"{_SUITE}::test_another_version_begins_again_after_the_row_has_forgotten_the_bytes",),
    ),
    Defect(
        "what is to be known of a download is not told",
        "transfer/way.py",
        "said = [self.note, *route.notes, note, *lost]",
        "said = [self.note, *route.notes, *lost]",
        ("tests/transfer/test_worker_faults.py::test_8_a_refused_head_is_no_failure_and_not_asked_again",),
    ),
    Defect(
        "connections of one job used for another",
        "transfer/messages.py",
        'job=str(message["transfer"]).partition(":")[0],',
        'job="",',
        ("tests/transfer/test_connections.py::test_sessions_are_resumed_within_a_job_and_within_a_job_alone",),
    ),
    Defect(
        "credentials sent to the server of a redirect",
        "transfer/auth.py",
        "    if not peer.is_proxy and not _is_at_home(peer, home):\n",
        "    if False:\n",
        (f"{_MATRIX}::test_no_secret_reaches_the_second_hop",),
    ),
    Defect(
        "credentials of a proxy given to a server that asks like one",
        "transfer/auth.py",
        "own = [one for one in given.credentials if one.target is peer.target]",
        "own = list(given.credentials)",
        ("tests/transfer/test_auth.py::test_a_server_gets_none_of_the_proxy_and_a_proxy_none_of_the_server",),
    ),
    Defect(
        "password sent before anybody asked for it",
        "transfer/ladder.py",
        "            if login is not None:\n                self._carry(login, is_remembered=True)\n",
        "            basic = [one for one in self._usable.credentials if one.scheme is AuthScheme.BASIC]\n"
        "            login = login or next((BasicLogin(one, '', '/') for one in basic), None)\n"
        "            if login is not None:\n                self._carry(login, is_remembered=True)\n",
        (f"{_LADDER}::test_nothing_is_sent_before_it_is_asked_for_and_then_at_once",),
    ),
    Defect(
        "password sent in clear when a better scheme was refused",
        "transfer/space.py",
        "        if self.refusals and credential.scheme is AuthScheme.BASIC:\n",
        "        if False:\n",
        (f"{_LADDER}::test_basic_is_no_way_out_when_a_better_scheme_was_refused",),
    ),
    Defect(
        "wrong password sent once by each file",
        "transfer/ladder.py",
        "        if self.space.prover not in {None, self}:\n",
        "        if False:\n",
        (f"{_LADDER}::test_files_of_a_job_that_run_together_send_a_wrong_password_once",),
    ),
    Defect(
        "addresses that are denied connected to after all",
        "transfer/curl.py",
        "            if is_in(str(address.addr[0]), self._settings.denied):\n",
        "            if False:\n",
        ("tests/transfer/test_worker_rules.py::test_40_not_even_a_connection_is_made",),
    ),
    Defect(
        "password in the answer to a wrong one",
        "service/spawner_link.py",
        "            raise logon_refusal(user, refused) from None\n",
        '            raise logon_refusal(f"{user}:{password}", refused) from None\n',
        ("tests/real/test_attacks_identity.py::test_t14_secrets_are_to_be_found_nowhere",),
    ),
    Defect(
        "logons not limited",
        "core/limits.py",
        "LOGON_FAILURES = 5\n",
        "LOGON_FAILURES = 50_000\n",
        ("tests/real/test_logons.py::test_t12_two_at_a_time_and_five_failures_a_minute_for_each_caller",),
    ),
    Defect(
        "secret not bound to its owner",
        "service/vault.py",
        'return f"{job_id}|{slot}|{owner_uid}|{key_id}".encode()',
        'return f"{job_id}|{slot}|{key_id}".encode()',
        ("tests/service/test_vault.py::test_a_secret_is_good_for_one_job_one_slot_and_one_owner",),
    ),
    Defect(
        "secret of one job opens in another",
        "service/vault.py",
        'return f"{job_id}|{slot}|{owner_uid}|{key_id}".encode()',
        'return f"{slot}|{owner_uid}|{key_id}".encode()',
        ("tests/service/test_vault.py::test_a_secret_is_good_for_one_job_one_slot_and_one_owner",),
    ),
    Defect(
        "administrators give credentials to foreign jobs",
        "core/access.py",
        "Verb.SET_CREDENTIALS: Rule.OWNER,",
        "Verb.SET_CREDENTIALS: Rule.OWNER_OR_ADMINISTRATOR,",
        (f"{_ENTRUSTED}::test_what_is_entrusted_is_the_owners_alone_to_give_and_nobodys_to_read",),
    ),
    Defect(
        "identity of the call not looked at when secrets are entrusted",
        "service/methods_options.py",
        "for identity in (opened.opened_by, call.identity)",
        "for identity in (opened.opened_by,)",
        (f"{_ENTRUSTED}::test_the_identity_of_the_call_counts_too",),
    ),
    Defect(
        "deleted secrets stay in the pages of the store",
        "store/sqlite.py",
        "PRAGMA secure_delete = ON",
        "PRAGMA secure_delete = OFF",
        ("tests/store/test_secrets.py::test_what_is_deleted_is_in_no_file_any_more",),
    ),
    Defect(
        "deleted secrets stay in the log of the store",
        "store/sqlite.py",
        "        if self._has_erased:\n            self._empty_log()\n",
        "",
        ("tests/store/test_secrets.py::test_what_is_deleted_is_in_no_file_any_more",),
    ),
    Defect(
        "secrets of a final job are kept",
        "core/moves.py",
        "        secrets=job.secrets if abandoning.keeps_secrets(job, state) else (),\n",
        "",
        ("tests/core/test_secrets.py::test_cancel_and_complete_erase_them_also_while_temporaries_are_left",),
    ),
    Defect(
        "secrets of an upload that was given up outlive its session",
        "core/news.py",
        "with_file(job, event.file_index, session=None), secrets=())",
        "with_file(job, event.file_index, session=None))",
        (f"{_ABANDONING}::test_open21_what_was_entrusted_is_erased_with_the_session",),
    ),
    Defect(
        "a restart forgets to tell a server that an upload was given up",
        "core/lifecycle.py",
        "(after.state is not job.state or is_restart) and abandoning",
        "after.state is not job.state and abandoning",
        (f"{_ABANDONING}::test_open21_a_restart_goes_on_with_telling",),
    ),
    Defect(
        "servers of any number of cancelled uploads are told, and each is a row that no limit counts",
        "service/abandoned.py",
        "is_one_too_many = len(jobs) >= MOST",
        "is_one_too_many = False",
        ("tests/real/test_upload_cancel.py::test_nobody_fills_the_store_with_jobs_that_no_limit_counts",),
    ),
    Defect(
        "proof of who asks is sent to the server of a redirect",
        "transfer/route.py",
        "is_given = target.origin == self._given",
        "is_given = True",
        ("tests/transfer/test_route.py::test_what_proves_who_asks_is_for_the_origin_alone",),
    ),
    Defect(
        "one flag about certificates ignores every class of faults",
        "transfer/tls.py",
        "if ignored_by is None or ignored_by not in flags:",
        "if ignored_by is None or not flags:",
        (
            "tests/transfer/test_tls_verify.py::test_each_flag_ignores_exactly_its_class",
            f"{_SERVERS}::test_a_flag_ignores_its_class_and_no_other",
        ),
    ),
    Defect(
        "dates of certificates are never looked at beside other faults",
        "transfer/tls_verify.py",
        "            flags = crypto.X509StoreFlags.PARTIAL_CHAIN\n",
        "            flags = crypto.X509StoreFlags.PARTIAL_CHAIN | (_NO_CHECK_TIME if faults else 0)\n",
        ("tests/transfer/test_tls_verify.py::test_each_flag_ignores_exactly_its_class",),
    ),
    Defect(
        "a request goes out to a key that was not looked at",
        "transfer/curl_tls.py",
        "    if trust is not None:\n",
        "    if trust is not None and trust.is_chain_checked:\n",
        (f"{_SERVERS}::test_a_connection_with_another_key_is_not_used_before_it_is_looked_at",),
    ),
    Defect(
        "flags about servers count for a proxy over TLS",
        "transfer/curl_tls.py",
        "        (pycurl.PROXY_SSL_VERIFYPEER, 1),\n",
        "        (pycurl.PROXY_SSL_VERIFYPEER, int(watched is None and trust is None)),\n",
        (f"{_SERVERS}::test_a_proxy_over_tls_is_verified_in_full_whatever_the_flags",),
    ),
    Defect(
        "the certificate of a proxy is taken for that of the server",
        "transfer/tls_messages.py",
        "return self._chain if self._layer == self._layers else ()",
        "return self._chain",
        ("tests/transfer/test_tls_messages.py::test_the_certificate_of_a_proxy_is_not_that_of_the_server",),
    ),
    Defect(
        "a session that is resumed when we look shows no certificate",
        "transfer/curl_tls.py",
        "            (pycurl.SSL_SESSIONID_CACHE, 0),",
        "",
        ("tests/transfer/test_real_tls.py::test_a_second_look_sees_as_much_as_the_first",),
    ),
    Defect(
        "client certificate is shown to the server of a redirect",
        "transfer/tls_gate.py",
        "return self._order.client_certificate if request.target.origin == self._given else None",
        "return self._order.client_certificate",
        (
            f"{_SERVERS}::test_a_client_certificate_is_shown_to_no_other_server",
            f"{_SERVERS}::test_a_client_certificate_is_for_the_server_that_the_client_has_named",
        ),
    ),
    Defect(
        "client certificate is shown to a server that is not trusted",
        "transfer/tls_gate.py",
        "return is_asked_for or peer in self._suspects or self._certificate_for(request) is not None",
        "return is_asked_for or peer in self._suspects",
        (f"{_SERVERS}::test_a_client_certificate_is_not_shown_to_a_server_that_is_not_trusted",),
    ),
    Defect(
        "certificate callback is asked once for all servers of a file",
        "transfer/tls_gate.py",
        "        if not self._order.has_certificate_callback:\n",
        "        if not self._order.has_certificate_callback or self._open:\n",
        ("tests/transfer/test_worker_callback.py::test_each_server_of_a_redirect_is_shown",),
    ),
    Defect(
        "revocation is not looked up where the issuer is ignored",
        "transfer/tls_lists.py",
        "        if is_cut and top.subject != top.issuer:\n",
        "        if False:\n",
        (f"{_REVOCATION}::test_an_issuer_that_is_ignored_leaves_nothing_to_verify_a_list_with",),
    ),
    Defect(
        "anybody may sign a revocation list",
        "transfer/tls_revocation.py",
        "    return crl.is_signature_valid(issuer.public_key())",
        "    return True or crl.is_signature_valid(issuer.public_key())",
        (
            "tests/transfer/test_tls_revocation.py::test_a_list_of_somebody_else_does_not_count",
            f"{_REVOCATION}::test_where_nobody_can_say_the_file_is_refused",
        ),
    ),
    Defect(
        "bytes of a server that may be revoked are kept when the check is switched on",
        "core/requests.py",
        "        after = _with_files_to_check(after)\n",
        "        pass\n",
        (
            f"{_SETTING}::test_the_revocation_check_begins_unfinished_https_files_again_and_no_others",
            "tests/real/test_certificates.py::test_the_check_switched_on_in_the_middle_begins_the_file_again",
        ),
    ),
    Defect(
        "what a certificate callback accepted is accepted for other certificates, too",
        "service/certificate_checks.py",
        "        if pair in callback.accepted:\n",
        "        if pair[0] in {server for server, _ in callback.accepted}:\n",
        (f"{_CALLBACK}::test_what_was_accepted_is_not_asked_again_and_what_was_refused_is",),
    ),
    Defect(
        "private key beside a certificate goes to the manager",
        "identity/certificates.py",
        "for found in _CERTIFICATE.finditer(_content(folder, name, opener)):",
        "for found in [[_content(folder, name, opener)]]:",
        ("tests/identity/test_certificates.py::test_certificates_come_in_the_order_of_names_and_keys_stay",),
    ),
    Defect(
        "tickets of the owner are used where the helper's are meant",
        "service/entrusting.py",
        "network = source_for(record, Use.SERVER_CHALLENGE_IMPLICIT, ErrorContext.REMOTE_FILE)",
        "network = source_for(record, Use.CLIENT_CERTIFICATE, ErrorContext.REMOTE_FILE)",
        (f"{_HELPER}::test_without_tickets_of_the_helper_those_of_the_owner_do_not_step_in",),
    ),
    Defect(
        "tickets that somebody else has left are used",
        "identity/tickets.py",
        " and status.st_uid == os.geteuid()",
        "",
        (f"{_PERSONAL}::TestTickets::test_tickets_that_somebody_else_has_put_there_are_not_used",),
    ),
    Defect(
        "stored credentials go to a proxy that the owner of a job has named",
        "service/entrusting.py",
        'user=row["user"], password=row["password"], origin=origin)',
        'user=row["user"], password=row["password"])',
        ("tests/service/test_entrusting.py::test_stored_credentials_are_for_their_proxy_alone",),
    ),
    Defect(
        "stored credentials that others may read are used",
        "identity/personal.py",
        " or status.st_mode & 0o077",
        "",
        (f"{_PERSONAL}::TestSettings::test_a_secret_that_others_may_read_is_refused_with_what_to_do",),
    ),
    Defect(
        "private key of the owner goes to the helper",
        "service/orders.py",
        "        entrusting.check(job, file)\n",
        "",
        (f"{_CERTIFICATES}::test_the_helper_cannot_use_the_owners_key_and_nothing_is_connected",),
    ),
    Defect(
        "a fragment that overlaps writes stored bytes again",
        "server/fragments.py",
        "    skip = min(facts.next_offset - facts.fragment.first, facts.body_length)\n",
        "    skip = 0\n",
        (f"{_SESSIONS}::test_f6_d14_stored_bytes_are_never_rewritten",),
    ),
    Defect(
        "the final fragment is acknowledged before its bytes are on the disk",
        "server/sessions.py",
        "                await self._sync(entry)\n",
        "                await self._entries.open_file(entry)\n",
        (f"{_POWER_CUT}::test_s6_what_the_final_ack_has_told_is_there_after_a_power_cut",),
    ),
    Defect(
        "the final fragment is acknowledged before the record of it is on the disk",
        "server/completion.py",
        "await self._save(entry, is_durable=True, stage=Stage.WAIT_FOR_CLOSE",
        "await self._save(entry, is_durable=False, stage=Stage.WAIT_FOR_CLOSE",
        (f"{_POWER_CUT}::test_s6_what_the_final_ack_has_told_is_there_after_a_power_cut",),
    ),
    Defect(
        "bytes that were not synced count after a start of the machine",
        "server/store.py",
        'connection.execute("UPDATE sessions SET offset = durable WHERE offset > durable")',
        "pass",
        ("tests/server/test_store.py::test_s6_after_a_start_of_the_machine_what_was_synced_counts",),
    ),
    Defect(
        "an upload that was cancelled is published when its application answers",
        "server/completion.py",
        "        if entry.is_ended:  # cancelled meanwhile: nobody wants the answer\n",
        "        if False:\n",
        (
            f"{_COMPLETION}::test_s5_3_cancel_during_the_notification_does_not_wait_and_drops_the_answer",
            f"{_COMPLETION}::test_s5_3_cancel_while_the_answer_is_being_recorded_drops_it_too",
        ),
    ),
    Defect(
        "an upload replaces a file that came after its session",
        "server/storage.py",
        "                    _check_replacing(path, existing, allow_overwrites=allow_overwrites)\n",
        "",
        (f"{_SESSIONS}::test_two_sessions_for_one_name_the_first_to_commit_wins",),
    ),
    Defect(
        "a symlink below the root leads an upload out of it",
        "server/storage.py",
        "descriptor = self._opener(bytes(path.parent),",
        "descriptor = os.open(bytes(path.parent),",
        ("tests/server/test_storage.py::test_a_destination_is_refused_before_anything_is_created",),
    ),
    Defect(
        "what was uploaded can be executed",
        "server/storage.py",
        "os.fchmod(request, mode & _PUBLIC_BITS)",
        "os.fchmod(request, mode)",
        ("tests/server/test_storage.py::test_s13_published_files_are_never_executable",),
    ),
    Defect(
        "whoever knows the id of a session has it",
        "server/session.py",
        "(session.directory, session.user, session.fingerprint) == (directory.url_path, user.name, user.fingerprint)",
        "session.directory == directory.url_path",
        (
            "tests/server/test_session_stages.py::test_d8_anything_else_may_not",
            f"{_SERVER}::test_step_10_the_session_of_another_user_is_unknown",
        ),
    ),
    Defect(
        "the upload server takes passwords in the clear",
        "server/access.py",
        "return request.is_secure or self._takes_plain_passwords",
        "return True",
        (f"{_SERVER}::test_passwords_are_not_taken_without_tls_unless_a_setting_says_so",),
    ),
    Defect(
        "an upload is over when its server claims more bytes than there are",
        "transfer/upload.py",
        'raise BadAnswerError(f"{Header.RECEIVED} {received} is beyond the file of {size} bytes")',
        "received = size",
        ("tests/transfer/test_upload.py::test_7_2_what_is_no_byte_of_the_file_is_invalid",),
    ),
    Defect(
        "a file that changes while it is sent arrives as a mix of two",
        "transfer/upload_source.py",
        "if (seen.size_bytes, seen.last_modified) != (known.size_bytes, known.last_modified):",
        "if False:",
        (
            f"{_UPLOADS}::test_7_1_a_file_that_changes_while_it_is_sent",
            f"{_UPLOADS}::test_9_3_a_file_that_is_not_the_one_that_the_job_has_begun_with",
        ),
    ),
    Defect(
        "credentials go to whatever host an upload server names",
        "transfer/upload_hosts.py",
        '    if origin.scheme == "https":\n        return True\n    mine,',
        "    return True\n    mine,",
        (
            "tests/transfer/test_upload_hosts.py::test_d27_who_may_know_who_we_are",
            f"{_UPLOADS}::test_d27_the_job_proves_itself_to_another_host_only_where_that_is_safe",
        ),
    ),
    Defect(
        "bytes are sent under a session that is not in the store",
        "transfer/upload_http.py",
        "if session is not None and session.session_id != self._session_id:",
        "if False:",
        ("tests/transfer/test_upload_kept.py::test_a_worker_waits_until_a_new_session_is_kept",),
    ),
    Defect(
        "the reply to an upload over https comes in the clear",
        "core/uploading.py",
        "return is_kept and not (is_downgrade and",
        "return is_kept or (is_downgrade and",
        ("tests/core/test_uploading.py::test_section_8_3_replies_are_of_the_web_and_never_worse_protected",),
    ),
)
"""The rows; `old` is copied from the sources, so a row whose place has changed says so in the tests."""


def page() -> str:
    """docs/defects.md."""
    rows = (f"| {defect.name} | {defect.file} | {', '.join(map(_short, defect.tests))} |" for defect in DEFECTS)
    return HEAD + "\n".join(rows) + "\n"


def _short(test: str) -> str:
    path, _, name = test.partition("::")
    return f"{path.removeprefix('tests/')} {name.replace('_', ' ').removeprefix('test ')}".rstrip()


def source(defect: Defect) -> str:
    """The changed file. Raises ValueError if the place is not there exactly once."""
    text = (ROOT / "src" / "openbits" / defect.file).read_text()
    if text.count(defect.old) != 1:
        raise ValueError(f"{defect.name}: {defect.file} has the text {text.count(defect.old)} times")
    return text.replace(defect.old, defect.new)


class Copy:
    """A private copy of the project and an environment whose `openbits` is that of the copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.chmod(0o755)
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
        self._python = folder / "env" / "bin" / "python"
        (site,) = (folder / "env" / "lib").glob("python*/site-packages")
        (site / "first.pth").write_text(f"{folder / 'src'}\n{sysconfig.get_path('purelib')}\n")

    def put(self, file: str, text: str) -> None:
        """Change one file of the package."""
        (self._folder / "src" / "openbits" / file).write_text(text)

    def test(self, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run these tests."""
        command = [str(self._python), "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        return subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=600)


def run(names: Sequence[str]) -> int:
    """Put in every defect, or those whose names contain one of the words; how many were not caught."""
    chosen = [defect for defect in DEFECTS if not names or any(name in defect.name for name in names)]
    with tempfile.TemporaryDirectory(prefix="openbits-defects-", dir="/tmp") as folder:  # all uids can pass it
        copy = Copy(Path(folder))
        tests = sorted({test for defect in chosen for test in defect.tests})
        sound = copy.test(tests)
        if sound.returncode != 0:
            sys.stdout.write(f"{sound.stdout}\nthe tests fail without any defect\n")
            return 1
        missed = 0
        for line, is_caught in _results(copy, chosen):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            missed += not is_caught
    sys.stdout.write(f"{len(chosen) - missed} of {len(chosen)} defects were caught\n")
    return min(missed, 100)


def _results(copy: Copy, defects: Sequence[Defect]) -> Iterator[tuple[str, bool]]:
    for defect in defects:
        began_at = time.monotonic()
        text = source(defect)
        compile(text, defect.file, "exec")
        copy.put(defect.file, text)
        missed = [test for test in defect.tests if copy.test([test]).returncode != 1]
        copy.put(defect.file, (ROOT / "src" / "openbits" / defect.file).read_text())
        verdict = f"MISSED by {', '.join(missed)}" if missed else "caught"
        yield f"{verdict} ({time.monotonic() - began_at:.0f} s): {defect.name}", not missed


if __name__ == "__main__":
    if sys.argv[1:] == ["page"]:
        sys.stdout.write(page())
    else:
        sys.exit(run(sys.argv[1:]))
