"""Download a file and put it in place as another user: the helper-token procedure of BITS, step by step.

    python -m openbits.samples.helper_token REMOTE LOCAL DOMAIN USER PASSWORD [--flags N]

The job belongs to who runs this. USER's token creates and renames the local file (flag BG_TOKEN_LOCAL_FILE), so it is
USER who needs the right to write there, and the file is USER's. The numbers are those of the documented procedure.
"""

import argparse
import getpass
import os
import sys
import threading

from openbits.com import (
    BG_JOB_TYPE_DOWNLOAD,
    BG_NOTIFY_JOB_ERROR,
    BG_NOTIFY_JOB_TRANSFERRED,
    BG_TOKEN_LOCAL_FILE,
    COINIT_APARTMENTTHREADED,
    EOAC_DYNAMIC_CLOAKING,
    LOGON32_LOGON_INTERACTIVE,
    LOGON32_PROVIDER_DEFAULT,
    RPC_C_AUTHN_LEVEL_CONNECT,
    RPC_C_IMP_LEVEL_IMPERSONATE,
    S_OK,
    BackgroundCopyManager,
    CloseHandle,
    CoInitializeEx,
    CoInitializeSecurity,
    COMError,
    CoUninitialize,
    IBackgroundCopyCallback,
    IBackgroundCopyError,
    IBackgroundCopyJob,
    IBitsTokenOptions,
    ImpersonateLoggedOnUser,
    LogonUser,
    RevertToSelf,
)

FIFTEEN_MINUTES = 15 * 60.0
ENGLISH = 0x0409


class Callback(IBackgroundCopyCallback):
    """Completes the job when everything is transferred, and tells the main thread how it ended."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.is_published = False

    def JobTransferred(self, pJob: IBackgroundCopyJob) -> int:  # noqa: N802, N803  # names of the interface
        """Step 16: make the file visible."""
        step(16, "JobTransferred: Complete")
        try:
            self.is_published = pJob.Complete() == S_OK
        except COMError as error:
            complain(error)
        self.is_over.set()
        return S_OK

    def JobError(self, pJob: IBackgroundCopyJob, pError: IBackgroundCopyError) -> int:  # noqa: N802, N803
        """The job cannot go on: print why; the main thread cancels it."""
        print(f"    {pError.GetErrorDescription(ENGLISH)}", file=sys.stderr, flush=True)
        self.is_over.set()
        return S_OK


def main(arguments: list[str] | None = None) -> int:
    """Run the procedure; 0 only if the file is published."""
    options = parser().parse_args(arguments)
    try:
        # Step 1: initialise COM.
        step(1, "CoInitializeEx")
        CoInitializeEx(None, COINIT_APARTMENTTHREADED)
        try:
            return run(options)
        finally:
            CoUninitialize()
    except COMError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        return 130


def run(options: argparse.Namespace) -> int:
    """Steps 2 to 16, between CoInitializeEx and CoUninitialize."""
    # Steps 2 and 3: let the service impersonate, and send the token of the thread with each call (dynamic cloaking).
    step(2, "CoInitializeSecurity: RPC_C_IMP_LEVEL_IMPERSONATE")
    step(3, "CoInitializeSecurity: EOAC_DYNAMIC_CLOAKING")
    CoInitializeSecurity(
        None,
        -1,
        None,
        None,
        RPC_C_AUTHN_LEVEL_CONNECT,
        RPC_C_IMP_LEVEL_IMPERSONATE,
        None,
        EOAC_DYNAMIC_CLOAKING,
        None,
    )
    # Step 4: connect to the service.
    step(4, "BackgroundCopyManager")
    manager = BackgroundCopyManager()
    # Step 5: create the job; it belongs to this process's user.
    step(5, "CreateJob")
    job_id, job = manager.CreateJob("Helper token sample", BG_JOB_TYPE_DOWNLOAD)
    print(f"    job {job_id} of {job.GetOwner()}", flush=True)
    try:
        callback = Callback()
        # Step 6: say who is called back.
        step(6, "SetNotifyInterface")
        job.SetNotifyInterface(callback)
        # Step 7: and for what.
        step(7, "SetNotifyFlags")
        job.SetNotifyFlags(BG_NOTIFY_JOB_TRANSFERRED | BG_NOTIFY_JOB_ERROR)
        set_helper_token(job, options)
        # Step 13: add the file. Its directory is checked with the identity that will write there.
        step(13, "AddFile")
        job.AddFile(options.remote, os.path.abspath(options.local))  # noqa: PTH100  # resolve() follows links, as the owner
        # Step 14: let the transfer begin.
        step(14, "Resume")
        job.Resume()
        # Step 15: wait for the callback.
        step(15, "wait for the callback")
        if not callback.is_over.wait(FIFTEEN_MINUTES):
            print("    no callback within 15 minutes", file=sys.stderr, flush=True)
    except BaseException:
        cancel(job)
        raise
    if not callback.is_published:
        cancel(job)
    return 0 if callback.is_published else 1


def set_helper_token(job: IBackgroundCopyJob, options: argparse.Namespace) -> None:
    """Steps 8 to 12: give the job the second user's token, under impersonation of that user."""
    # Step 8: get the interface before impersonating: access to the job is checked here, as its owner.
    step(8, "QueryInterface(IBitsTokenOptions)")
    token_options = job.QueryInterface(IBitsTokenOptions)
    # Step 9: log the second user on and impersonate.
    step(9, "LogonUser, ImpersonateLoggedOnUser")
    token = LogonUser(
        options.user,
        options.domain,
        read_password(options.password),
        LOGON32_LOGON_INTERACTIVE,
        LOGON32_PROVIDER_DEFAULT,
    )
    try:
        ImpersonateLoggedOnUser(token)
        try:
            # Step 10: the service takes the identity of this very call.
            step(10, "SetHelperToken")
            token_options.SetHelperToken()
            # Step 11: what it is used for.
            step(11, f"SetHelperTokenFlags({options.flags})")
            token_options.SetHelperTokenFlags(options.flags)
        finally:
            # Step 12: act as ourselves again, on every way out, and close the handle; the job keeps its token.
            step(12, "RevertToSelf, CloseHandle")
            RevertToSelf()
    finally:
        CloseHandle(token)
    print(f"    helper token of {token_options.GetHelperTokenSid()}", flush=True)


def cancel(job: IBackgroundCopyJob) -> None:
    """On any error: cancel, so that nothing is left in the queue."""
    print("Cancel", flush=True)
    try:
        job.Cancel()
    except COMError as error:
        complain(error)


def complain(error: COMError) -> None:
    """Print a failed call with its code."""
    print(f"helper_token: {error.name} (0x{error.hresult:08X}): {error}", file=sys.stderr, flush=True)


def read_password(given: str) -> str:
    """The password itself, `-` for a line of standard input (asked for on a terminal), `fd:N` for a descriptor."""
    if given == "-":
        return getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if given.startswith("fd:") and given[3:].isdecimal():
        with open(int(given[3:]), encoding="utf-8") as file:  # noqa: PTH123  # a descriptor, not a path
            return file.readline().rstrip("\n")
    return given


def parser() -> argparse.ArgumentParser:
    """The five arguments of the documented sample, and the flags."""
    made = argparse.ArgumentParser(prog="python -m openbits.samples.helper_token", description=__doc__.split("\n")[0])
    made.add_argument("remote", metavar="REMOTE", help="URL of the file")
    made.add_argument("local", metavar="LOCAL", help="where it goes, as seen by USER")
    made.add_argument("domain", metavar="DOMAIN", help="domain of USER; . for this machine")
    made.add_argument("user", metavar="USER", help="the second user")
    made.add_argument("password", metavar="PASSWORD", help="USER's password; - from standard input, fd:N descriptor N")
    made.add_argument(
        "--flags",
        type=int,
        default=int(BG_TOKEN_LOCAL_FILE),
        choices=range(4),
        metavar="N",
        help="what the token is used for: 1 local file (default), 2 network, 3 both, 0 nothing",
    )
    return made


def step(number: int, what: str) -> None:
    """Print a step of the procedure."""
    print(f"{number:2} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
