"""The hosts as containers: starts, kills and removes them, and says where they are.

Prints one JSON object: the addresses of all hosts that there are. The host keys are taken from the
containers themselves into a file of known hosts, so that SSH can insist on them.

The containers are unprivileged, and yet the sandboxes of units are real: systemd needs
CAP_SYS_ADMIN for their mounts, and may install filters of system calls itself. /var/lib is a
volume, because a node should be tested on a file system of disks, not on the layers of an image.
/srv/shared is one volume for all, as a mounted share would be: it outlives the hosts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

BOOT_SECONDS = 120.0
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], check=False, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def make_network(prefix: str) -> None:
    """Internal: no route leads out of it, but this machine has an address in it."""
    if not docker("network", "ls", "--quiet", "--filter", f"name=^{prefix}$"):
        docker("network", "create", "--internal", prefix)


def remove_what_they_share(prefix: str) -> None:
    if docker("volume", "ls", "--quiet", "--filter", f"name=^{prefix}-shared$"):
        docker("volume", "rm", f"{prefix}-shared")
    if docker("network", "ls", "--quiet", "--filter", f"name=^{prefix}$"):
        docker("network", "rm", prefix)


def start(prefix: str, name: str, image: str, key: Path) -> None:
    """Start a new host; it boots meanwhile."""
    docker(
        *("run", "--detach", "--pull=never", f"--name={prefix}-{name}", f"--hostname={name}"),
        *(f"--network={prefix}", f"--network-alias={name}"),
        *("--cap-add=NET_ADMIN", "--cap-add=SYS_ADMIN"),
        *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
        *("--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp", "--volume=/var/lib"),
        "--volume=/sys/fs/cgroup:/sys/fs/cgroup:ro",
        f"--volume={prefix}-shared:/srv/shared",
        f"--volume={key}:/etc/ssh/authorized_keys/operator:ro",
        # Else systemd takes the machine id from this machine's, the same for all.
        f"--env=container_uuid={uuid.uuid4()}",
        image,
    )


def wait_for_sshd(prefix: str, name: str) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    command = ["docker", "exec", f"{prefix}-{name}", "systemctl", "is-active", "ssh.service"]
    while (seen := subprocess.run(command, check=False, capture_output=True)).returncode:
        if time.monotonic() > deadline:
            sys.exit(f"{name} did not start its sshd: {seen.stdout.decode()}{seen.stderr.decode()}")
        time.sleep(0.2)


def know(known: Path, address: str, host_key: str) -> None:
    """Put the host key of an address in the place of the one that was known of it."""
    lines = known.read_text().splitlines() if known.exists() else []
    kept = [line for line in lines if line.split()[0] != address]
    known.write_text("\n".join([*kept, f"{address} {host_key}"]) + "\n")


def existing(prefix: str) -> list[str]:
    """The containers of this scenario, whether they run or not."""
    names = docker("ps", "--all", "--format={{.Names}}", "--filter", f"name=^{prefix}-").split()
    return sorted(names)


def addresses(prefix: str) -> dict[str, str]:
    """Name of each running host -> address."""
    found = existing(prefix)
    described = json.loads(docker("inspect", *found)) if found else []
    networks = {one["Name"]: one["NetworkSettings"]["Networks"] for one in described}
    return {
        name.removeprefix(f"/{prefix}-"): network[prefix]["IPAddress"]
        for name, network in networks.items()
        if network.get(prefix, {}).get("IPAddress")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", required=True, help="of containers, and the network's name")
    parser.add_argument("--image", help="to start hosts from")
    parser.add_argument("--key", type=Path, help="public key of who may come in")
    parser.add_argument("--known", type=Path, help="file of known hosts")
    parser.add_argument("command", choices=["start", "kill", "remove", "show"])
    parser.add_argument("names", nargs="*", help="of hosts; to remove none is to remove all of it")
    arguments = parser.parse_args()
    prefix, names = arguments.prefix, arguments.names
    if arguments.command == "start":
        make_network(prefix)
        for name in names:
            start(prefix, name, arguments.image, arguments.key)
        for name in names:
            wait_for_sshd(prefix, name)
        for name, address in addresses(prefix).items():
            if name in names:
                know(arguments.known, address, docker("exec", f"{prefix}-{name}", "cat", HOST_KEY))
    elif arguments.command == "kill":
        docker("kill", *(f"{prefix}-{name}" for name in names))
    elif arguments.command == "remove":
        if gone := [f"{prefix}-{name}" for name in names] or existing(prefix):
            docker("rm", "--force", "--volumes", *gone)
        if not names:
            remove_what_they_share(prefix)
    print(json.dumps(addresses(prefix)))  # noqa: T201 - the playbooks read it


if __name__ == "__main__":
    main()
