"""The inside of the sandbox: gives up what the process may do, then runs the program from standard input.

Started by `sandbox.py` as `python -I -S sandbox_child.py`; standard library only. Says on the pipe it is given what could
not be given up (and stops there), or that the program ran to its end.
"""

import ctypes
import os
import resource
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWIPC = 0x10000000, 0x40000000, 0x20000000, 0x08000000
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # the same on every architecture
PR_SET_NO_NEW_PRIVS = 38
ALL_FILE_RIGHTS = (1 << 13) - 1  # Landlock ABI 1
READ_RIGHTS = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a folder
LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Arguments: pipe, seconds, bytes of memory, bytes of files, writable folder, the word that means done, readable paths."""
    pipe, seconds, memory_bytes, file_bytes, folder, word, *readable = sys.argv[1:]
    program = compile(sys.stdin.read(), "<program>", "exec", dont_inherit=True)
    answer = os.fdopen(int(pipe), "w")
    os.set_inheritable(answer.fileno(), False)
    try:
        namespaces()
        pid = os.fork()  # the first child of a new PID namespace; when it ends, all that it started ends
        if pid:
            _, status = os.waitpid(pid, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        os.chdir(folder)
        files(folder, readable)
        limits(int(float(seconds)) + 1, int(memory_bytes), int(file_bytes))
    except OSError as error:
        answer.write(f"cannot isolate: {error}\n")
        answer.flush()
        os._exit(3)
    exec(program, {"__name__": "__main__"})
    answer.write(word + "\n")
    answer.flush()


def namespaces() -> None:
    """No network, no other processes: new namespaces, in which there is none but this one."""
    flags = CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC
    for kinds in (flags | CLONE_NEWUSER, flags):  # where users may make no namespaces, root still may
        if LIBC.unshare(kinds) == 0:
            return
    raise OSError(ctypes.get_errno(), "unshare: new network and process namespaces are not allowed here")


def files(folder: str, readable: list[str]) -> None:
    """Landlock (Linux 5.13): writing in `folder` only, reading there and in `readable` only, kept by all children."""
    rules = struct.pack("Q", ALL_FILE_RIGHTS)
    ruleset = LIBC.syscall(LANDLOCK_CREATE, rules, len(rules), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock is not there: files can't be protected")
    for path, rights in [(folder, ALL_FILE_RIGHTS), *((path, READ_RIGHTS) for path in readable)]:
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if not os.path.isdir(path):
            rights &= 1 << 0 | 1 << 1 | 1 << 2  # a file has no folder rights
        rule = struct.pack("=Qi", rights, handle)
        if LIBC.syscall(LANDLOCK_ADD, ruleset, 1, rule, 0):
            raise OSError(ctypes.get_errno(), f"landlock: no rule for {path}")
        os.close(handle)
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if LIBC.syscall(LANDLOCK_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock: not enforced")
    os.close(ruleset)


def limits(seconds: int, memory_bytes: int, file_bytes: int) -> None:
    """Of each process; the parent's clock bounds all of them together."""
    for what, value in (
        (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))


main()
