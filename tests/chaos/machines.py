"""Two hosts on this machine: namespaces for network, processes, mounts and name, with a cable between them.

They run what `cluster/on-premise.yaml` says, as `ray up` would over SSH. All processes of a host end with it, and it
ends with this process, whatever happens to that.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from evofool.config import load_config
from evofool.machines import launch

__all__ = ["ADDRESSES", "HEAD", "TOKEN", "Host", "Hosts", "two_hosts"]

ROOT = Path(__file__).parent.parent.parent
ADDRESSES = ("10.231.7.1", "10.231.7.2")  # head and worker; nobody else sees them
HEAD = f"{ADDRESSES[0]}:6379"
TOKEN = "0123456789abcdef" * 4
STARTING = 120.0  # seconds that a command of a launch file may take
INIT = """
set -e
hostname "$0"
mount -t proc proc /proc
mkdir -p /tmp/ray
mount -t tmpfs none /tmp/ray
mount -t tmpfs none /dev/shm
ip link set lo up
mount --bind "$1" /etc/hosts
mount --bind /dev/null /etc/resolv.conf
echo ready
while :; do sleep 60 & wait; done
"""


class Host:
    """One of them.

    Args:
        name: what it calls itself.
        names: its /etc/hosts.
        environment: of all its processes.
    """

    def __init__(self, name: str, names: Path, environment: Mapping[str, str]) -> None:
        self.name, self.environment = name, dict(environment)
        namespaces = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
        command = ["setpriv", "--pdeathsig", "KILL", *namespaces, "bash", "-c", INIT, name, str(names)]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline().decode()
        if said != "ready\n":
            self.end()
            raise OSError(f"{' '.join(namespaces)}: {said.strip()}")
        (init,) = psutil.Process(self._holder.pid).children()
        self.init = init.pid

    def start(self, *command: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command there, with `environment` unless `env` is given."""
        inside = ["nsenter", "--net", "--mount", "--pid", "--uts", "--target", str(self.init), "--", *command]
        return subprocess.Popen(inside, text=True, **{"env": self.environment, **more})

    def run(self, *command: str, within: float = STARTING, **more: Any) -> tuple[int, str]:
        """Run a command there: (exit code, what it printed)."""
        with tempfile.TemporaryFile("w+") as output:  # not a pipe, which daemons would keep open
            process = self.start(*command, stdout=output, stderr=subprocess.STDOUT, **more)
            try:
                code = process.wait(within)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            output.seek(0)
            return code, output.read()

    def do(self, *command: str, **more: Any) -> str:
        """Run a command that has to succeed."""
        code, said = self.run(*command, **more)
        if code:
            raise OSError(f"{self.name}: {' '.join(command)} ended with {code}: {said[-1500:]}")
        return said

    def ports(self) -> dict[int, set[str]]:
        """{port: addresses} that somebody listens at."""
        found: dict[int, set[str]] = {}
        for line in self.do("ss", "-Hltn").splitlines():
            address, _, port = line.split()[3].rpartition(":")
            found.setdefault(int(port), set()).add(address)
        return found

    def end(self) -> None:
        """As if the power went."""
        self._holder.kill()
        self._holder.wait()


class Hosts:
    """A head and a worker, each with a core for an evaluator unless told otherwise, and a token.

    Args:
        folder: for the hosts' home folders.
        environment: of everything on both, beside what is needed.
        head_cpus: of the head.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], head_cpus: int = 1) -> None:
        self.folder, self.more, self.head_cpus = folder, dict(environment), head_cpus
        config = ROOT / "configs" / "quickstart.yaml"
        wishes = launch.Wishes(cpus=1, hosts=ADDRESSES)
        settings = load_config(config, ["evaluation.evaluators=auto"])
        self.file = yaml.safe_load(launch.fill("on-premise", config, [], settings, wishes).text)
        self.names = folder / "hosts"  # nobody answers for DNS, and Ray would wait for it
        self.names.write_text(f"127.0.0.1 localhost\n{ADDRESSES[0]} head\n{ADDRESSES[1]} worker\n")
        self.head, self.worker = self.host("head"), self.host("worker")
        self.wire()

    def host(self, name: str, token: str | None = TOKEN) -> Host:
        """A host with its home, and in it the token and the programs, as the launch file puts them there."""
        home = self.folder / name
        (home / ".ray").mkdir(parents=True, exist_ok=True)
        if token is not None:
            file = home / ".ray" / "auth_token"
            file.write_text(token)
            file.chmod(0o600)
        if not (home / "venv").exists():
            (home / "venv").symlink_to(sys.prefix)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        own = {"HOME": str(home), "PYTHONPATH": str(ROOT), "RAY_HEAD_IP": ADDRESSES[0], "RAY_USAGE_STATS_ENABLED": "0"}
        return Host(name, self.names, {**kept, **own, **self.more})

    def wire(self) -> None:
        """Lay the cable; it goes when one of its ends does."""
        with contextlib.suppress(OSError):
            self.worker.do("ip", "link", "del", "cable")  # the kernel takes its time with that of a lost head
        ends = [(self.head, ADDRESSES[0], ADDRESSES[1]), (self.worker, ADDRESSES[1], ADDRESSES[0])]
        pair = f"ip link add cable netns {self.head.init} type veth peer name cable netns {self.worker.init}"
        subprocess.run(pair.split(), check=True, capture_output=True)
        for host, own, _ in ends:
            host.do("ip", "addr", "add", f"{own}/24", "dev", "cable")
            host.do("ip", "link", "set", "cable", "up")
        for host, _, other in ends:
            host.do("ip", "route", "add", "default", "via", other)  # Ray asks where the world would be

    def cut(self) -> None:
        """Pull the cable out of the worker."""
        self.worker.do("ip", "link", "set", "cable", "down")

    def mend(self) -> None:
        """Put it back."""
        self.worker.do("ip", "link", "set", "cable", "up")
        self.worker.do("ip", "route", "add", "default", "via", ADDRESSES[0])

    def start_head(self) -> None:
        """What `ray up` has the head do."""
        for line in self.file["head_start_ray_commands"]:
            line = line.replace(" --autoscaling-config=~/ray_bootstrap_config.yaml", "")  # for SSH to the others
            self.head.do("bash", "-c", line.replace("--num-cpus=1", f"--num-cpus={self.head_cpus}"))

    def start_worker(self) -> None:
        """What it has workers do, which first ends what runs there."""
        for line in self.file["worker_start_ray_commands"]:
            self.worker.do("bash", "-c", line)

    @staticmethod
    def opened(host: Host) -> dict[str, str]:
        """The environment of somebody there who has the token, as the launch file puts it into .bashrc."""
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{host.environment['HOME']}/.ray/auth_token"}
        return {**host.environment, **token}

    def driver(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """The command line on the head."""
        return self.head.start(sys.executable, "-m", "evofool", *arguments, env=self.opened(self.head), **more)

    def end(self) -> None:
        """All processes of both."""
        self.head.end()
        self.worker.end()


@contextlib.contextmanager
def two_hosts(environment: Mapping[str, str], head_cpus: int = 1) -> Iterator[Hosts]:
    """Both hosts with Ray running on them."""
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="evofool-hosts-", ignore_cleanup_errors=True)
        hosts = Hosts(Path(stack.enter_context(folder)), environment, head_cpus)
        stack.callback(hosts.end)
        hosts.start_head()
        hosts.start_worker()
        yield hosts
