#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Has a file or a directory in the cluster, or has it no more, over HTTP."""

from __future__ import annotations

DOCUMENTATION = r"""
module: file
short_description: Have a file or a directory in the cluster
version_added: 0.1.0
description:
  - Writes, makes or removes what is at a path of the replicated folder, over HTTP. It is on a
    majority of the nodes when the module has ended, and on all of them a moment later.
  - What is there is read first, as the whole cluster agrees on it, and content is compared byte for
    byte. What somebody else writes in between is not overwritten; the module fails instead.
  - All tries of a write have one C(Idempotency-Key), so that it is done once, whichever node does
    it.
options:
  urls:
    description: Base URLs of the client ports of some nodes, or of a load balancer before them.
      When one does not answer, or not now, the next one is asked.
    type: list
    elements: str
    required: true
  path:
    description: Path in the folder, without a slash at its begin. Directories above it are made.
    type: str
    required: true
  state:
    description:
      - V(present) has a file with O(content), or with that of O(template) or O(src);
        V(directory) has a directory.
      - V(absent) has nothing at the path.
    type: str
    choices: [present, directory, absent]
    default: present
  content:
    description: Text of the file.
    type: str
  template:
    description: A Jinja2 template on the control node, looked for and rendered there as by
      M(ansible.builtin.template). What it gives is the text of the file.
    type: path
  src:
    description: A file with the content, of any size, on the machine where the task runs. To send
      one of the control node, delegate the task to C(localhost).
    type: path
  mode:
    description:
      - Permission bits in octal, quoted, such as V('0644'). The owner must be able to read, and to
        enter a directory, for that is what the nodes are.
      - When not given, what is there keeps its bits, and what is new has V(0644) or, a directory,
        V(0755).
    type: raw
  recursive:
    description: With O(state=absent), remove a directory with all that is in it.
    type: bool
    default: false
  timeout:
    description: Seconds to wait. A large file may take longer, which counts only while nothing
      moves.
    type: int
    default: 60
attributes:
  check_mode:
    description: Says what would be done.
    support: full
  diff_mode:
    description: Shows kind and mode, and the content where it is text of up to 100 KiB.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Have the settings of an application in the folder
  pickbox.cluster.file:
    urls: ["http://127.0.0.1:8080", "http://127.0.0.1:8081"]
    path: application/settings.ini
    template: settings.ini.j2
    mode: "0640"

- name: Send a file of the control node
  pickbox.cluster.file:
    urls: ["http://10.0.0.1:8080", "http://10.0.0.2:8080"]
    path: images/logo.png
    src: "{{ playbook_dir }}/files/logo.png"
  delegate_to: localhost

- name: Remove a directory with all that is in it
  pickbox.cluster.file:
    urls: ["http://127.0.0.1:8080"]
    path: application/cache
    state: absent
    recursive: true
"""

RETURN = r"""
path:
  description: The path.
  returned: success
  type: str
version:
  description: Version of what is at the path; 0 when nothing is. In check mode, of what is there
    now.
  returned: success
  type: int
digest:
  description: Digest of the content with its algorithm; empty for what is no file.
  returned: success
  type: str
  sample: blake3:5f0c1b
url:
  description: The node that answered last.
  returned: success
  type: str
seconds:
  description: How long it took.
  returned: success
  type: float
"""

import http.client
import io
import re
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import api
from ansible_collections.pickbox.cluster.plugins.module_utils.files import (
    FILES,
    SHOWN,
    Content,
    Unusable,
    absent,
    address,
    as_text,
)

CHUNK = 1 << 20
DEFAULT_MODES = {"file": "0644", "directory": "0755"}


@dataclass(frozen=True)
class Found:
    """What is at a path: its kind, ``absent`` when there is nothing, and how it is."""

    kind: str
    version: int = 0
    mode: str = ""
    digest: str = ""
    shown: str = ""
    same: bool = False
    """Whether a file's content is the one that is wanted."""


def look(nodes: api.Nodes, path: str, wanted: Content | None) -> Found:
    """What the cluster has at `path`, compared with `wanted`."""
    target = f"{address(path)}?consistency=linearizable"
    try:
        return nodes.ask("GET", target, take=lambda answer: _file_in(answer, wanted))
    except api.Refused as refusal:
        if absent(refusal):
            return Found("absent")
        if refusal.type != "not-a-file":
            raise
    for entry in listed(nodes, path):
        if entry["path"] == path:
            return Found(entry["kind"], entry["version"], entry["mode"])
    return Found("absent")


def listed(nodes: api.Nodes, prefix: str) -> list[dict[str, Any]]:
    """The first entry whose path begins with `prefix`, if there is one."""
    begin = quote(prefix, safe="", errors="surrogateescape")
    entries: list[dict[str, Any]] = nodes.json("GET", f"{FILES}?limit=1&prefix={begin}")["entries"]
    return entries


def _file_in(answer: Any, wanted: Content | None) -> Found:
    size = int(answer.headers["Content-Length"])
    shown, same = f"({size} bytes that are not shown)\n", False
    if size <= SHOWN:
        content = answer.read()
        shown = as_text(content, size)
        same = wanted is not None and _equal(io.BytesIO(content), wanted, size)
    elif wanted is not None and wanted.size == size:
        same = _equal(answer, wanted, size)
    return Found(
        "file",
        int(answer.headers["X-Pickbox-Version"]),
        answer.headers["X-Pickbox-Mode"],
        answer.headers["X-Pickbox-Digest"],
        shown,
        same,
    )


def _equal(answer: Any, wanted: Content, size: int) -> bool:
    """Whether `size` bytes of `answer` are those of `wanted`."""
    if wanted.size != size:
        return False
    with wanted.open() as expected:
        while size:
            chunk = answer.read(min(size, CHUNK))
            if not chunk:
                raise http.client.IncompleteRead(b"", size)
            if chunk != expected.read(len(chunk)):
                return False
            size -= len(chunk)
    return True


def mode_of(mode: Any, state: str) -> str:
    """Permission bits as the cluster writes them; empty when none are given.

    Raises:
        Unusable: they are none, or none that nodes take.
    """
    if mode is None:
        return ""
    # YAML makes a number of an octal one that is not quoted.
    text = f"{mode:04o}" if isinstance(mode, int) else str(mode)
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise Unusable(f"mode: {mode!r} is none; write permission bits in quotes, such as '0644'.")
    needed = 0o500 if state == "directory" else 0o400
    if int(text, 8) & needed != needed:
        raise Unusable(
            f"mode: {mode!r} keeps nodes out, which work in the folder as its owner; "
            f"add 0{needed:o} to it."
        )
    return text.zfill(4)


def refuse_what_cannot_be(
    nodes: api.Nodes, path: str, found: Found, state: str, deep: bool
) -> None:
    """See that what is there can become what is wanted.

    Raises:
        Unusable: it cannot.
    """
    wanted = {"present": "file"}.get(state, state)
    if state != "absent" and found.kind not in ("absent", wanted):
        raise Unusable(
            f"{path} is a {found.kind} in the cluster, and a {wanted} is wanted: remove it first "
            "(state: absent), or choose another path."
        )
    if state == "absent" and found.kind == "directory" and not deep and listed(nodes, f"{path}/"):
        raise Unusable(
            f"{path} is a directory with entries: remove them first, or set recursive to remove it "
            "with all that is in it."
        )


def write(nodes: api.Nodes, path: str, found: Found, mode: str, content: Content | None) -> Any:
    """Put a file with `content`, or a directory without; give what the cluster answers."""
    headers = {"Content-Type": "application/octet-stream"} if content else {}
    if mode:
        headers["X-Pickbox-Mode"] = mode
    if content:
        headers["Content-Length"] = str(content.size)
    return nodes.ask(
        "PUT",
        address(path) + ("" if content else "?kind=directory"),
        headers={**headers, **once_on(found)},
        body=content.open if content else None,
    )


def remove(nodes: api.Nodes, path: str, found: Found, *, deep: bool) -> Any:
    """Delete what was found; give what the cluster answers."""
    query = "?recursive=true" if deep else ""
    return nodes.ask("DELETE", address(path) + query, headers=once_on(found))


def once_on(found: Found) -> dict[str, str]:
    """Headers by which a write is done once, however often it is sent, and on this version only."""
    none = found.kind == "absent"
    condition = {"If-None-Match": "*"} if none else {"If-Match": f'"{found.version}"'}
    return {"Idempotency-Key": uuid.uuid4().hex, **condition}


def differences(
    path: str, found: Found, after: Found, content: Content | None
) -> list[dict[str, str]]:
    """Diffs of kind and mode, and of the content."""
    shown = content.shown() if content else ""
    pairs = [(in_words(found), in_words(after)), (found.shown, shown)]
    return [
        {"before_header": path, "before": before, "after_header": path, "after": now}
        for before, now in pairs
        if before != now
    ]


def in_words(found: Found) -> str:
    """Kind and mode for a diff."""
    return f"kind: {found.kind}\n" + (f"mode: '{found.mode}'\n" if found.mode else "")


def as_wanted(state: str, found: Found, mode: str) -> Found:
    """What there is to be, in place of what was found."""
    if state == "absent":
        return Found("absent")
    kind = "directory" if state == "directory" else "file"
    return Found(kind, found.version, mode or found.mode or DEFAULT_MODES[kind], found.digest)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "urls": {"type": "list", "elements": "str", "required": True},
            "path": {"required": True},
            "state": {"choices": ["present", "directory", "absent"], "default": "present"},
            "content": {},
            "template": {"type": "path"},
            "src": {"type": "path"},
            "mode": {"type": "raw"},
            "recursive": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        mutually_exclusive=[("content", "template", "src")],
        required_if=[("state", "present", ["content", "template", "src"], True)],
        supports_check_mode=True,
    )
    path, state, deep = (module.params[name] for name in ("path", "state", "recursive"))
    deadline = api.Deadline(module.params["timeout"])
    nodes = api.Nodes(module.params["urls"], deadline)
    try:
        mode, content = mode_of(module.params["mode"], state), None
        if state == "present":
            content = Content.of(module.params)
        found = look(nodes, path, content)
        refuse_what_cannot_be(nodes, path, found, state, deep)
        after = as_wanted(state, found, mode)
        written = {"version": found.version, "digest": found.digest}
        changed = in_words(after) != in_words(found) or (state == "present" and not found.same)
        if changed and not module.check_mode:
            if state == "absent":
                written = remove(nodes, path, found, deep=deep)
            else:
                written = write(nodes, path, found, mode, content)
    except Unusable as reason:
        module.fail_json(msg=str(reason))
    except api.Failed as failed:
        api.explain(module, failed, f"Making {path} {state}", deadline)
    module.exit_json(
        changed=changed,
        path=path,
        version=written["version"],
        digest=written["digest"],
        url=nodes.url,
        seconds=deadline.spent,
        diff=differences(path, found, after, content) if changed else [],
    )


if __name__ == "__main__":
    main()
