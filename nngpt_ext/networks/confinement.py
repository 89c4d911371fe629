"""What a process on Linux gives up before it runs foreign code: files, network, other processes, system calls.

Only system calls, through ctypes: nothing is compiled. `isolate` is called once, by the parent that forks; `enclose`
by each child before it runs code. Neither can be undone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

GIGABYTE = 1 << 30
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7), "arm64": (1, 0xC00000B7)}  # and seccomp's name

# What a network may call: numbers on x86_64 and on aarch64 (None: it has no such call). All others fail with EPERM.
_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "poll": (7, None), "lseek": (8, 62), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67),
    "readv": (19, 65), "writev": (20, 66), "access": (21, None), "select": (23, None), "sched_yield": (24, 124),
    "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23), "nanosleep": (35, 101), "getpid": (39, 172),
    "exit": (60, 93), "uname": (63, 160), "getcwd": (79, 17), "readlink": (89, None), "gettimeofday": (96, 169),
    "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174),
    "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173),
    "sigaltstack": (131, 132), "arch_prctl": (158, None), "gettid": (186, 178), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "set_tid_address": (218, 96),
    "restart_syscall": (219, 128), "fadvise64": (221, 223), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "newfstatat": (262, 79), "readlinkat": (267, 78),
    "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99),
    "getcpu": (309, 168), "getrandom": (318, 278), "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293),
    "faccessat2": (439, 439),
}  # fmt: skip
_OPEN = 0o3 | 0o100 | 0o1000 | 0o20000000  # to write, create, truncate or make a nameless file
_THREAD = 0x100 | 0x10000  # CLONE_VM and CLONE_THREAD
_CALLS = {  # those used here, and those that are allowed with some arguments only
    "open": (2, None), "openat": (257, 56), "mmap": (9, 222), "ioctl": (16, 29), "fcntl": (72, 25),
    "clone": (56, 220), "clone3": (435, 435), "prlimit64": (302, 261), "openat2": (437, 437), "capset": (126, 91),
    "pivot_root": (155, 41), "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}  # fmt: skip
_EPERM, _EACCES, _ENOSYS = 1, 13, 38

# Landlock's rights, by the version that brought them; none of them is given but reading.
_READ = 1 << 2 | 1 << 3  # files, and lists of folders
_NEWUSER, _NEWNS, _NEWNET, _NEWIPC, _NEWUTS = 0x10000000, 0x20000, 0x40000000, 0x8000000, 0x4000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_KEPT = 1 | 2 | 4 | 8 | 1024 | 2048 | (1 << 21)  # flags of a mount that statvfs names as mount does
_DETACH = 2


class Unconfinable(Exception):
    """This machine cannot keep foreign code away from files; the text says why."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    """A system call."""
    number = _CALLS[name][ARCHITECTURES[platform.machine()][0]]
    converted = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = _libc().syscall(ctypes.c_long(number or -1), *converted)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def _checked(result: int, name: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _prctl(option: int, *values: object) -> None:
    padded = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in (*values, 0, 0, 0, 0)[:4]]
    _checked(_libc().prctl(option, *padded), "prctl")


def isolate(folders: Iterable[str], *, without: frozenset[str] = frozenset()) -> list[str]:
    """Take from this process everything but reading some folders: files, the network, privileges.

    Args:
        folders: that may still be read, also by their libraries' loader.
        without: `landlock` or `namespaces`: not used, as on a machine that lacks them.

    Returns:
        What was applied.

    Raises:
        Unconfinable: if files cannot be kept away.
    """
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        raise Unconfinable(f"a sandbox needs Linux on x86_64 or aarch64, not {platform.system()} {platform.machine()}")
    readable = _present(folders)
    applied = []
    _prctl(38, 1)  # no_new_privs
    if "namespaces" not in without:
        with suppress(OSError):
            applied += _namespaces(readable)
    if "landlock" not in without:
        with suppress(OSError):
            _landlock(readable)
            applied.append("landlock")
    if not {"landlock", "mounts"} & set(applied):
        raise Unconfinable("this machine has neither Landlock (Linux 5.13 or later) nor user namespaces")
    _without_capabilities()
    _prctl(4, 0)  # not dumpable: other processes cannot trace it or read its memory
    return applied


def _present(folders: Iterable[str]) -> list[str]:
    """The folders and files that exist, by their own and their real paths, without those inside others."""
    paths = {os.path.abspath(one) for one in folders}  # noqa: PTH100 (links stay)
    found: list[str] = []
    for one in sorted(paths | {os.path.realpath(one) for one in paths}):
        if Path(one).exists() and not any(one.startswith(f"{top}/") for top in found):
            found.append(one)
    return found


def _namespaces(readable: list[str]) -> list[str]:
    """A user, network and mount namespace of its own, whose root has only what may be read."""
    user, group = os.getuid(), os.getgid()
    _checked(_libc().unshare(_NEWUSER | _NEWNS | _NEWNET | _NEWIPC | _NEWUTS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)
    try:
        _new_root(readable)
    except OSError:  # mounts may be forbidden where namespaces are not
        return ["namespaces"]
    return ["namespaces", "mounts"]


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if one is None else os.fsencode(one) for one in (source, target, kind, data)]
    _checked(_libc().mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def _new_root(readable: list[str]) -> None:
    root = "/tmp"  # any folder: it is covered in this namespace only
    handles = [os.open(one, os.O_PATH | os.O_CLOEXEC) for one in readable]  # some may be below it
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=0755")
    for one, handle in zip(readable, handles, strict=True):
        source, target = f"/proc/self/fd/{handle}", Path(f"{root}{one}")
        if Path(source).is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        _mount(source, str(target), None, _BIND | _REC)
        os.close(handle)
        kept = os.statvfs(target).f_flag & _KEPT
        kept |= 0 if one.startswith("/dev/") else _NODEV
        _mount("none", str(target), None, _BIND | _REMOUNT | _RDONLY | _NOSUID | kept)
    os.chdir(root)
    _call("pivot_root", ctypes.c_char_p(b"."), ctypes.c_char_p(b"."))
    _checked(_libc().umount2(b".", _DETACH), "umount")
    os.chdir("/")
    _mount("none", "/", None, _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV)


def _landlock(readable: list[str], *, files: bool = True) -> None:
    """Restrict this process, by everything that this kernel's version of Landlock can."""
    version = _call("landlock_create_ruleset", None, 0, 1)
    rights = (1 << 13) - 1
    for since, right in ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15)):
        rights |= right if version >= since else 0
    # Rights on files, on TCP ports, and reaching what is outside: abstract sockets and signals.
    values = [rights if files else 0, 3 if files and version >= 4 else 0, 3 if version >= 6 else 0]
    attributes = struct.pack("=QQQ", *values)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _call("landlock_create_ruleset", ctypes.c_char_p(attributes), len(attributes), 0)
    try:
        for one in readable:
            handle = os.open(one, os.O_PATH | os.O_CLOEXEC)
            allowed = _READ if Path(one).is_dir() else 1 << 2
            if one == os.devnull:  # libraries open it to write when they are imported
                allowed |= rights & (1 << 1 | 1 << 14)
            rule = ctypes.create_string_buffer(struct.pack("=Qi", allowed, handle))
            _call("landlock_add_rule", ruleset, 1, rule, 0)
            os.close(handle)
        _call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _without_capabilities() -> None:
    """Privileges of root, also of root in a namespace of its own."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    _call("capset", header, ctypes.create_string_buffer(24))


def enclose(memory: int, seconds: int) -> None:
    """Limit a child's memory (bytes) and CPU time, and let it make only system calls that computing needs.

    Called last before foreign code.
    """
    with suppress(OSError):  # nested in the parent's: signals to the parent are outside
        _landlock([], files=False)
    limit(memory, seconds)
    _prctl(38, 1)
    _seccomp()


def limit(memory: int, seconds: int) -> None:
    """Limit memory, CPU time, files and core dumps of this process."""
    for kind, value in (
        (resource.RLIMIT_AS, memory), (resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64),
    ):  # fmt: skip
        resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def _filter() -> list[Instruction]:
    """The program that the kernel runs at each system call."""
    column, name = ARCHITECTURES[platform.machine()]

    def number(call: str) -> int | None:
        return _CALLS[call][column]

    def argument(i: int) -> Instruction:  # its lower half; both machines are little-endian
        return (_LOAD, 0, 0, 16 + 8 * i)

    def fail(error: int) -> Instruction:
        return (_RETURN, 0, 0, _ERRNO | error)

    allow: Instruction = (_RETURN, 0, 0, _ALLOW)
    program: list[Instruction] = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, name), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    for numbers in _ALLOWED.values():
        if numbers[column] is not None:
            program += [(_EQUAL, 0, 1, numbers[column] or 0), allow]

    def none_of(call: str, i: int, bits: int, error: int) -> list[Instruction]:
        return [argument(i), (_AND, 0, 0, bits), (_EQUAL, 0, 1, 0), allow, fail(error)]

    def one_of(i: int, values: tuple[int, ...]) -> list[Instruction]:
        checks: list[Instruction] = [argument(i)]
        for value in values:
            checks += [(_EQUAL, 0, 1, value), allow]
        return [*checks, fail(_EPERM)]

    special: list[tuple[str, list[Instruction]]] = [
        ("open", none_of("open", 1, _OPEN, _EACCES)),
        ("openat", none_of("openat", 2, _OPEN, _EACCES)),
        ("mmap", none_of("mmap", 3, 1, _EPERM)),  # shared memory is in no limit
        ("ioctl", one_of(1, (0x5401, 0x5451))),  # whether it is a terminal; close at exec
        ("fcntl", one_of(1, (0, 1, 2, 3, 1030))),  # copies, flags; not who gets signals
        ("clone", [argument(0), (_AND, 0, 0, _THREAD), (_EQUAL, 0, 1, _THREAD), allow, fail(_EPERM)]),
        ("clone3", [fail(_ENOSYS)]),  # its flags cannot be seen: the C library then uses clone
        ("openat2", [fail(_ENOSYS)]),
        # Limits are read, of this process only.
        ("prlimit64", [argument(0), (_EQUAL, 0, 5, 0), argument(2), (_EQUAL, 0, 3, 0), (_LOAD, 0, 0, 36),
                       (_EQUAL, 0, 1, 0), allow, fail(_EPERM)]),
    ]  # fmt: skip
    for call, checks in special:
        if number(call) is not None:
            program += [(_EQUAL, 0, len(checks), number(call) or 0), *checks]
    return [*program, fail(_EPERM)]


def _seccomp() -> None:
    program = _filter()
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    _prctl(22, 2, header)
