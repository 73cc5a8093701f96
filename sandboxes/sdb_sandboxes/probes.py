"""Probes from inside a sandbox: what a hostile program can reach, one short program each.

Place in the flow: `sdbench sandbox check` runs `probe` in every sandbox and at every level of this
host and prints covered or not; a test holds each level to what it promises. `conformance.py` asks
whether verdicts are right, this file whether walls stand. Source: the list of what a candidate
tried from inside five widely used executors.

What it does not do: a covered probe is one closed door, not a proof that no other is open.
"""

from dataclasses import dataclass
from typing import Literal

from sdb_sandboxes.sandbox import Sandbox
from sdb_sandboxes.types import CallOutcome, ExecutionRequest, ResourceLimits, Status

LIMITS = ResourceLimits(
    cpu_s=2.0, wall_s=120.0, memory_bytes=256 << 20, file_bytes=4 << 20, num_processes=16
)
PRELUDE = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
REFUSALS = (1, 13, 38)  # EPERM, EACCES, ENOSYS
NUMBERS = {
    "x86_64": {"ptrace": 101, "process_vm_readv": 310, "mount": 165, "unshare": 272, "setns": 308,
        "setuid": 105, "chroot": 161, "clock_settime": 227, "bpf": 321, "userfaultfd": 323,
        "perf_event_open": 298, "keyctl": 250, "add_key": 248, "io_uring_setup": 425,
        "memfd_create": 319, "personality": 135, "shmget": 29, "prlimit64": 302, "reboot": 169,
        "setpriority": 141, "sched_setattr": 314, "open_by_handle_at": 304, "kexec_load": 246,
        "init_module": 175, "pidfd_open": 434, "sethostname": 170, "syslog": 103, "quotactl": 179,
        "swapon": 167, "mq_open": 240, "msgget": 68, "semget": 64, "fanotify_init": 300},
    "aarch64": {"ptrace": 117, "process_vm_readv": 270, "mount": 40, "unshare": 97, "setns": 268,
        "setuid": 146, "chroot": 51, "clock_settime": 112, "bpf": 280, "userfaultfd": 282,
        "perf_event_open": 241, "keyctl": 219, "add_key": 217, "io_uring_setup": 425,
        "memfd_create": 279, "personality": 92, "shmget": 194, "prlimit64": 261, "reboot": 142,
        "setpriority": 140, "sched_setattr": 274, "open_by_handle_at": 265, "kexec_load": 104,
        "init_module": 105, "pidfd_open": 434, "sethostname": 161, "syslog": 116, "quotactl": 60,
        "swapon": 224, "mq_open": 180, "msgget": 186, "semget": 190, "fanotify_init": 262},
}[os.uname().machine]
def call(name, *arguments):
    "Whether the kernel takes a system call up, be it to complain about its arguments."
    return libc.syscall(NUMBERS[name], *arguments) >= 0 or ctypes.get_errno() not in REFUSALS
"""
"""What every probe may use: a raw system call and the usual modules."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One try. Its body runs as a function; raising, or returning nothing true, means closed."""

    name: str
    body: str
    weakest: Literal["minimal", "native-user"] = "minimal"
    """From which level on the try must fail; below, and only there, it may succeed."""


def reads(path: str) -> str:
    """A body that reads a file that is not the program's."""
    return f"return open({path!r}, 'rb').read(1)"


def calls(name: str, *arguments: str) -> str:
    """A body that makes one system call; with arguments that do no harm if it gets through."""
    return f"return call({', '.join([repr(name), *arguments])})"


def connects(family: str, kind: str, address: str) -> str:
    """A body that connects a socket somewhere."""
    return f"socket.socket(socket.{family}, socket.{kind}).connect({address}); return True"


FORKS = """
children = []
try:
    while len(children) < 40:
        pid = os.fork()
        if pid == 0:
            __import__('time').sleep(60)
            os._exit(0)
        children.append(pid)
finally:
    for pid in children:
        os.kill(pid, 9)
return True
"""
DISK = """
for number in range(60):
    with open(f'f{number}', 'wb') as file:
        file.write(bytes(3 << 20))
return True
"""
FILES = """
# More than the 32,768 inodes of a work folder.
for number in range(40_000):
    open(f'n{number}', 'wb').close()
return True
"""
ATTEMPT = """
def f():
    try:
        return bool(attempt())
    except BaseException:
        return False
"""


PROBES = (
    Probe("/etc/passwd", reads("/etc/passwd")),
    Probe("/etc/shadow", reads("/etc/shadow")),
    Probe("home of root", "return open('/root/.bashrc') or open('/root/.profile')"),
    Probe("this package's own files", "import sdb_sandboxes.types; return True"),
    Probe("environment of the starter", reads("/proc/1/environ")),
    Probe("environment of the server", "return open(f'/proc/{os.getppid()}/environ').read(1)"),
    Probe("memory of the server", "return open(f'/proc/{os.getppid()}/mem', 'rb')"),
    Probe("descriptors of the server", "return os.listdir(f'/proc/{os.getppid()}/fd')"),
    Probe("inherited environment", "return dict(os.environ)"),
    Probe("arguments of the starter", "return sys.argv[1:]"),
    Probe(
        "inherited descriptors", "return set(map(int, os.listdir('/proc/self/fd'))) - set(range(6))"
    ),
    Probe(
        "list of the host's processes",
        "return sum(name.isdigit() for name in os.listdir('/proc')) > 4",
        "native-user",
    ),
    Probe("symbolic link out of the folder", "os.symlink('/etc/passwd', 'l'); return open('l')"),
    Probe("hard link to a file outside", "return os.link('/etc/hostname', 'h') is None"),
    Probe("/dev/mem", "return open('/dev/mem', 'rb')"),
    Probe("/dev/kmsg", "return open('/dev/kmsg', 'rb')"),
    Probe("a disk of the host", "os.mknod('disk', 0o60600, os.makedev(254, 0)); return True"),
    Probe("/dev/shm", "return open('/dev/shm/x', 'wb')"),
    Probe("write /usr", "return open('/usr/x', 'wb')"),
    Probe("write /tmp of the host", "return open('/tmp/sdb-probe', 'wb')", "native-user"),
    Probe("write /proc/sys", "return open('/proc/sys/kernel/core_pattern', 'w')"),
    Probe("write /sys", "return open('/sys/kernel/mm/ksm/run', 'w')"),
    Probe("write control groups", "return open('/sys/fs/cgroup/memory/tasks', 'w')"),
    Probe("internet socket", connects("AF_INET", "SOCK_STREAM", "('1.1.1.1', 53)")),
    Probe("datagram to the outside", connects("AF_INET", "SOCK_DGRAM", "('1.1.1.1', 53)")),
    Probe("IPv6 socket", connects("AF_INET6", "SOCK_STREAM", "('::1', 80)")),
    Probe("name lookup", "return socket.getaddrinfo('example.org', 80)"),
    Probe("listen on loopback", "return socket.create_server(('127.0.0.1', 0))"),
    Probe("metadata service", connects("AF_INET", "SOCK_STREAM", "('169.254.169.254', 80)")),
    Probe("container engine", connects("AF_UNIX", "SOCK_STREAM", "'/var/run/docker.sock'")),
    Probe("system bus", connects("AF_UNIX", "SOCK_STREAM", "'/run/dbus/system_bus_socket'")),
    Probe("abstract socket", "socket.socket(socket.AF_UNIX).bind('\\0x'); return True"),
    Probe("raw socket", "return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    Probe("netlink", "return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    Probe("vsock", "return socket.socket(40, socket.SOCK_STREAM)"),
    Probe("kernel crypto socket", "return socket.socket(38, socket.SOCK_SEQPACKET)"),
    Probe("start a program", "return os.posix_spawn('/bin/true', ['true'], {})"),
    Probe("signal the server", "os.kill(os.getppid(), 0); return os.getppid() > 1"),
    Probe("signal everything", "os.kill(-1, 0); return True"),
    Probe("trace a process", calls("ptrace", "16", "os.getppid()", "0", "0")),
    Probe(
        "read another memory", calls("process_vm_readv", "os.getppid()", "0", "0", "0", "0", "0")
    ),
    Probe("handle on a process", calls("pidfd_open", "os.getppid()", "0")),
    Probe("mount", calls("mount", "0", "0", "0", "0", "0")),
    Probe("new user namespace", calls("unshare", "0x10000000")),
    Probe("new mount namespace", calls("unshare", "0x00020000")),
    Probe("enter a namespace", calls("setns", "-1", "0")),
    Probe("become root", calls("setuid", "0")),
    Probe("chroot", calls("chroot", "0")),
    Probe("set the clock", calls("clock_settime", "0", "0")),
    Probe("host name", calls("sethostname", "0", "-1")),
    Probe("kernel log", calls("syslog", "9", "0", "0")),
    Probe("eBPF", calls("bpf", "0", "0", "0")),
    Probe("user page faults", calls("userfaultfd", "0")),
    Probe("performance counters", calls("perf_event_open", "0", "0", "-1", "-1", "0")),
    Probe("io_uring", calls("io_uring_setup", "1", "0")),
    Probe("key rings", calls("keyctl", "0", "-3", "1")),
    Probe("add a key", calls("add_key", "b'user'", "b'x'", "b'y'", "1", "-3")),
    Probe("memory file", calls("memfd_create", "b'x'", "0")),
    Probe("System V shared memory", calls("shmget", "0", "4096", "0o1666")),
    Probe("System V queue", calls("msgget", "0", "0o1666")),
    Probe("System V semaphore", calls("semget", "0", "1", "0o1666")),
    Probe("POSIX queue", calls("mq_open", "b'x'", "0o102", "0o666", "0")),
    Probe("open by handle", calls("open_by_handle_at", "-100", "0", "0")),
    Probe("watch a file system", calls("fanotify_init", "0", "0")),
    Probe("load a module", calls("init_module", "0", "0", "0")),
    Probe("load a kernel", calls("kexec_load", "0", "0", "0", "0")),
    Probe("change the personality", calls("personality", "0x0040000")),
    Probe(
        "raise a limit", "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (-1, -1)); return True"
    ),
    Probe("raise its priority", "os.nice(-5); return True"),
    Probe("real-time priority", "os.sched_setscheduler(0, 1, os.sched_param(1)); return True"),
    Probe("a file above the limit", "return open('big', 'wb').write(bytes(5 << 20))"),
    Probe("more processes than allowed", FORKS),
    Probe("more disk than allowed", DISK, "native-user"),
    Probe("more files than allowed", FILES, "native-user"),
    Probe("files of the last program", "return os.listdir('.')"),
)


def probe(sandbox: Sandbox) -> dict[str, str]:
    """Try every probe: its name -> empty if covered, else what happened."""
    return {item.name: try_probe(sandbox, item) for item in PROBES}


def try_probe(sandbox: Sandbox, item: Probe) -> str:
    """Run one probe; empty if it got nowhere."""
    lines = "\n".join("    " + line for line in item.body.splitlines())
    program = f"{PRELUDE}\ndef attempt():\n{lines}\n{ATTEMPT}"
    result = sandbox.call_functions(ExecutionRequest(program, (("f", ()),), LIMITS))
    if result.status in (Status.INFRASTRUCTURE, Status.COMPILE_ERROR):
        return f"could not be tried: {result.status} ({result.detail})"
    if result.status is Status.PASSED and result.outcomes != (CallOutcome(False),):
        return f"open: {result.outcomes[0]}"
    return ""


def is_promised(item: Probe, level: str) -> bool:
    """Whether a sandbox of this level (`embedded/minimal`, `docker/runc`) must cover a probe."""
    return level != "embedded/minimal" or item.weakest == "minimal"


def find_broken(level: str, findings: dict[str, str]) -> list[str]:
    """The findings of `probe` that break what a level promises, one line each."""
    return [
        f"{item.name}: {findings[item.name]}"
        for item in PROBES
        if findings[item.name] and is_promised(item, level)
    ]
