"""Sources that try what a network must not do, and a runner that also an ordinary user can start.

    python -m tests.networks.hostile FOLDER PORT [NAME …]

prints what became of each as JSON: the reason why there is no structure, or the structure. FOLDER holds a file
`victim`, PORT is one that this machine listens on. A case that reaches its aim says REACHED.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from nngpt_ext.networks.sandbox import Sandbox, Unmeasured
from nngpt_ext.networks.structure import NUMBERS, Shape

ROOT = Path(__file__).parents[2]
ORDINARY = 65534  # the user nobody
SHAPE = Shape(3, 32, 32, 10)
BEGIN = """
import ctypes, os, signal, socket, subprocess, sys, threading, time
import torch
from torch import nn

FOLDER, PORT, PARENT = {folder!r}, {port}, os.getppid()
LIBC = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    if LIBC.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def answer(text):
    os.write(3, text if isinstance(text, bytes) else text.encode())


"""
END = """
raise RuntimeError("REACHED")
"""
GOOD = """
class Net(nn.Module):
    def __init__(self, in_shape, out_shape, prm, device):
        super().__init__()
        self.head = nn.Linear(in_shape[1] * in_shape[2] * in_shape[3], out_shape[0])

    def forward(self, x):
        return self.head(x.flatten(1))
"""
_NUMBERS = {**dict.fromkeys(NUMBERS, 0), "forward": 1}
_LIE = json.dumps({"numbers": {**_NUMBERS, "parameters": 7}})


def _lie(**changed: Any) -> str:
    text = json.dumps({"numbers": {**_NUMBERS, **changed}})
    return f"answer({text + chr(10)!r}); os._exit(0)"


# Name: what it does, and what its reason contains. Numbers of system calls are those of x86_64.
DENIED = "Permission denied|No such file or directory|Read-only file system"
REFUSED = "Operation not permitted"
QUICK: dict[str, tuple[str, str]] = {
    "reads a file outside": ("open('/etc/passwd').read()", DENIED),
    "reads the user's file": ("open(FOLDER + '/victim').read()", DENIED),
    "reads through the C library": (
        "if LIBC.open(b'/etc/passwd', 0) < 0: raise OSError(os.strerror(ctypes.get_errno()))",
        DENIED,
    ),
    "lists the user's folder": ("os.listdir(FOLDER)", DENIED),
    "reads the environment": (
        "if any(name in os.environ for name in ('NNGPT_EXT_SECRET', 'PYTHONPATH')): raise RuntimeError('REACHED')\n"
        "raise OSError('no secret')", "no secret",
    ),
    "reads a process": ("open('/proc/self/mem', 'rb').read(1)", DENIED),
    "reads its parent": ("open(f'/proc/{PARENT}/environ', 'rb').read(1)", DENIED),
    "writes its parent's memory": ("open(f'/proc/{PARENT}/mem', 'r+b')", DENIED),
    "writes a file": ("open(FOLDER + '/new', 'w')", DENIED),
    "writes beside the temporary files": ("open('/tmp/nngpt_ext_new', 'w')", DENIED),
    "writes here": ("open('new', 'w')", DENIED),
    "writes into its library": ("open(os.path.join(os.path.dirname(torch.__file__), 'new.py'), 'w')", DENIED),
    "appends": ("open(FOLDER + '/victim', 'a')", DENIED),
    "opens to write by number": ("call(257, -100, (FOLDER + '/victim').encode(), 0o1001, 0)", DENIED),
    "truncates": ("os.truncate(FOLDER + '/victim', 0)", REFUSED),
    "deletes": ("os.remove(FOLDER + '/victim')", REFUSED),
    "renames": ("os.rename(FOLDER + '/victim', FOLDER + '/other')", REFUSED),
    "links": ("os.symlink('/etc/passwd', FOLDER + '/link')", REFUSED),
    "makes a folder": ("os.mkdir(FOLDER + '/new')", REFUSED),
    "changes rights": ("os.chmod(FOLDER + '/victim', 0o777)", REFUSED),
    "changes times": ("os.utime(FOLDER + '/victim')", REFUSED),
    "makes a file in memory": ("os.memfd_create('code')", REFUSED),
    "connects": ("socket.create_connection(('127.0.0.1', PORT), 2)", REFUSED),
    "opens a socket through ctypes": ("call(41, 2, 1, 0)", REFUSED),
    "opens a pair of sockets": ("socket.socketpair()", REFUSED),
    "sets up io_uring": ("call(425, 1, ctypes.create_string_buffer(120))", REFUSED),
    "forks": ("os.fork()", REFUSED),
    "forks by number": ("call(57)", REFUSED),
    "clones": ("call(56, 17, 0, 0, 0, 0)", REFUSED),
    "clones by the newer call": ("call(435, ctypes.create_string_buffer(88), 88)", "Function not implemented"),
    "starts a program": ("subprocess.run(['/bin/true'])", REFUSED),
    "replaces itself": ("os.execv('/bin/true', ['true'])", REFUSED),
    "ends its parent": ("os.kill(PARENT, 9)", REFUSED),
    "signals its parent by input": ("import fcntl\nfcntl.fcntl(3, fcntl.F_SETOWN, PARENT)", REFUSED),
    "traces its parent": ("call(101, 16, PARENT, 0, 0)", REFUSED),
    "reads its parent's memory": ("call(310, PARENT, 0, 0, 0, 0, 0)", REFUSED),
    "takes its parent's descriptors": ("call(438, 3, 1, 0)", REFUSED),
    "limits its parent": ("import resource\nresource.prlimit(PARENT, resource.RLIMIT_CPU, (1, 1))", REFUSED),
    "lifts its limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
        "not (permitted|allowed)",
    ),
    "mounts": ("call(165, b'none', b'/', b'tmpfs', 0, 0)", REFUSED),
    "changes its root": ("os.chroot('/')", REFUSED),
    "makes a namespace": ("call(272, 0x10000000)", REFUSED),
    "becomes another user": ("os.setuid(12345)", REFUSED),
    "shares memory without limit": ("import mmap\nmmap.mmap(-1, 1 << 40)", REFUSED),
    "allocates 100 GB": ("bytearray(100 << 30)", "MemoryError"),
    "allocates a tensor of 100 GB": ("torch.zeros(25, 1 << 30)", "alloc"),
    "allocates bit by bit": (
        "import mmap\nkept = []\n"
        "while True: kept.append(mmap.mmap(-1, 1 << 28, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))",
        "Cannot allocate memory",
    ),
    "ends at once": ("os._exit(0)", "^it ended without an answer$"),
    "ends with a code": ("os._exit(3)", "^it ended without an answer$"),
    "raises SystemExit": ("raise SystemExit(0)", "^SystemExit: 0$"),
    "raises KeyboardInterrupt": ("raise KeyboardInterrupt", "^KeyboardInterrupt$"),
    "crashes": ("ctypes.string_at(0)", "^it crashed \\(SIGSEGV\\)$"),
    "overflows the stack": ("f = lambda n: f(n + 1)\nf(0)", "RecursionError"),
    "raises what cannot be shown": (
        "class E(Exception):\n    def __str__(self): os._exit(0)\nraise E",
        "without an answer",
    ),
    "raises a long text": ("raise ValueError('x\\n' * 10**7)", "^ValueError: x x x"),
    "raises escapes": ("raise ValueError('\\x1b[2J')", r"^ValueError: \\x1b\[2J$"),
    "floods standard output": ("for _ in range(10**5): print('x' * 1000)\nraise OSError('flooded')", "flooded"),
    "writes to all descriptors": (
        "reached = []\nfor i in [*range(4, 1024)]:\n    try: os.write(i, b'x'); reached.append(i)\n"
        "    except OSError: pass\n"
        "raise RuntimeError(f'REACHED {reached}') if reached else OSError('no descriptor')", "no descriptor",
    ),
    "answers with text": ("answer('hello\\n'); os._exit(0)", "^its answer is not JSON"),
    "answers half": ("answer('{\"numbers\": {'); os._exit(0)", "^it ended without an answer$"),
    "answers with a list": ("answer('[1]\\n'); os._exit(0)", r"^its answer is \[1\]$"),
    "answers with depth": ("answer('[' * 4000 + '\\n'); os._exit(0)", "^its answer is not JSON"),
    "answers with a huge number": (
        "answer('{\"numbers\": {\"macs\": ' + '9' * 4000 + '}}\\n'); os._exit(0)",
        "^its answer",
    ),
    "answers with a negative number": (_lie(parameters=-1), "^its answer: parameters must be a whole number"),
    "answers with a fraction": (_lie(macs=0.5), "^its answer: macs must be"),
    "answers with infinity": (_lie(macs=float("inf")), "^its answer: macs must be"),
    "answers with no number": (_lie(macs=float("nan")), "^its answer: macs must be"),
    "answers with a truth value": (_lie(layers=True), "^its answer: layers must be"),
    "answers with words": (_lie(depth="\x1b[2J deep"), r"^its answer: depth must be"),
    "answers with another name": (_lie(accuracy=1), "^its answer has no number 'accuracy'"),
    "answers too little": ("answer('{\"numbers\": {\"forward\": 1}}\\n'); os._exit(0)", "^its answer lacks parameters"),
    "answers with both": ("answer('{\"numbers\": {}, \"failure\": \"\"}\\n'); os._exit(0)", "^its answer is {"),
    "answers with 1 GB": (
        "for _ in range(1024): answer(b'x' * (1 << 20))",
        "^it was stopped because its answer is too long$",
    ),
}  # fmt: skip
# On a busy machine the time of the clock ends first.
STOPPED = "^it was stopped after (10 s of CPU time|20 s)$"
SLOW: dict[str, tuple[str, str]] = {
    "loops": ("while True: pass", STOPPED),
    "loops and ignores the signal": ("signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", STOPPED),
    "loops in many threads": (
        "def loop():\n    while True: pass\n"
        "for _ in range(50): threading.Thread(target=loop, daemon=True).start()\nloop()",
        STOPPED,
    ),
    "loops in C": ("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", STOPPED),
    "sleeps": ("time.sleep(3600)", "^it was stopped after 20 s$"),
    "floods standard output for ever": ("while True: print('x' * 1000)", STOPPED),
    "starts threads for ever": (
        "while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        "thread|memory|stopped|Memory",
    ),
}  # fmt: skip
# What is allowed, or cannot be prevented. One that answers twice does not answer for the next one.
HARMLESS: dict[str, str] = {
    "lies about itself": f"answer({(_LIE + chr(10)) * 2!r}); time.sleep(0.2); os._exit(0)",
    "is a network": GOOD,
    "uses threads": (
        "done = []\nt = threading.Thread(target=done.append, args=(1,))\nt.start(); t.join()\nassert done\n" + GOOD
    ),
    "tries and goes on": "try: os.remove(FOLDER + '/victim')\nexcept OSError: pass\n" + GOOD,
}


def run(names: list[str], folder: str, port: int, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """What became of each case, and which means were applied."""
    sources = {**{name: body + END for name, (body, _) in {**QUICK, **SLOW}.items()}, **HARMLESS}
    found: dict[str, Any] = {}
    with Sandbox(without=without) as sandbox:
        begin = BEGIN.replace("{folder!r}", repr(folder)).replace("{port}", str(port))
        process = sandbox._process
        assert process is not None
        for name in names:
            (one,) = sandbox.measure(begin + sources[name], [SHAPE])
            found[name] = one.reason if isinstance(one, Unmeasured) else one.numbers()
            assert sandbox._process is process, "the parent was ended"
        found["applied"] = sandbox.applied
    return found


def readable_by_all() -> str:
    """Shell that makes this interpreter readable by other users, in a mount namespace of its own."""
    hidden = [Path(sys.base_prefix), Path(sys.prefix), ROOT, Path("/tmp")]
    tops = {Path("/", *one.parts[1:2]) for one in hidden if one.parts[1] == "root"}
    lines = ["set -e"]
    for i, one in enumerate(dict.fromkeys(hidden)):
        if any(one.is_relative_to(top) for top in tops):
            lines += [f"mkdir -p /mnt/{i} && mount --bind {shlex.quote(str(one))} /mnt/{i}"]
    for top in sorted(tops):
        lines += [f"mount -t tmpfs -o mode=755 tmpfs {top}"]
        for i, one in enumerate(dict.fromkeys(hidden)):
            if one.is_relative_to(top):
                lines += [f"mkdir -p {shlex.quote(str(one))} && mount --move /mnt/{i} {shlex.quote(str(one))}"]
    return "\n".join(lines)


def run_as(user: int, names: list[str], folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """`run` in a process of this user; it prints JSON."""
    command = [sys.executable, "-m", "tests.networks.hostile", str(folder), str(port), *names]
    if user != os.getuid():
        become = f"setpriv --reuid {user} --regid {user} --clear-groups {shlex.join(command)}"
        script = f"{readable_by_all()}\ncd {shlex.quote(str(ROOT))}\nexec {become}"
        command = ["unshare", "--mount", "sh", "-c", script]
    own = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)}
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **own}, cwd=ROOT, check=False, timeout=600
    )


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[3:] or [*QUICK, *HARMLESS], sys.argv[1], int(sys.argv[2]))))
