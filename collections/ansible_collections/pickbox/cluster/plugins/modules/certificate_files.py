#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Puts a node's certificate, its key and its CAs in place together, once they fit together."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_files
short_description: Put a node's certificate, its key and its CAs in place together
version_added: 0.1.0
description:
  - Says what the files of a node hold and whether they can be used, and replaces them when told.
  - Before anything is replaced, the new files are tried - both sides of a TLS handshake show the
    certificate and trust the CAs - so files that do not belong together never land.
  - Needs Python's standard library only. No private key is read into the result.
options:
  ca:
    description: PEM file of the CAs that the node trusts.
    type: path
    required: true
  certificate:
    description: PEM file of the node's certificate.
    type: path
    required: true
  key:
    description: PEM file of its private key. Its mode is kept at 0600.
    type: path
    required: true
  trusted:
    description: What O(ca) has to hold. Left as it is when empty.
    type: str
    default: ""
  issued:
    description: What O(certificate) has to hold. Left as it is when empty.
    type: str
    default: ""
  issued_key:
    description: File with the private key of O(issued), beside O(key), which it becomes.
    type: path
attributes:
  check_mode:
    description: Says what would be replaced, and replaces nothing.
    support: full
  diff_mode:
    description: Shows CAs and certificate, and never the key.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: See whether the files of node1 can be used
  pickbox.cluster.certificate_files:
    ca: /opt/pickbox/nodes/node1/tls/ca.pem
    certificate: /opt/pickbox/nodes/node1/tls/certificate.pem
    key: /opt/pickbox/nodes/node1/tls/key.pem
  register: found
"""

RETURN = r"""
ca:
  description: The CAs in the file, in PEM, after what was done; empty when there are none.
  returned: success
  type: str
certificate:
  description: The certificate in the file, in PEM, after what was done; empty when there is none.
  returned: success
  type: str
problem:
  description: Why the files cannot be used; empty when they can.
  returned: success
  type: str
  sample: the certificate is refused (certificate has expired)
"""

import contextlib
import os
import ssl
from dataclasses import astuple, dataclass

from ansible.module_utils.basic import AnsibleModule

KEY_MODE = 0o600
PUBLIC_MODE = 0o644


@dataclass(frozen=True)
class Files:
    """Paths of what a node needs for TLS, in PEM."""

    ca: str
    certificate: str
    key: str


def certificates_in(path: str) -> str:
    """The text of a file, if it is certificates; else ""."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (OSError, ValueError):  # an SSLError is an OSError
        return ""
    return text


def problem_with(files: Files) -> str:
    """Why nodes with these files would refuse each other; "" if they would not."""
    for path in (files.ca, files.certificate, files.key):
        if not os.path.isfile(path):
            return f"there is no {path}"
    try:
        server = _context(ssl.PROTOCOL_TLS_SERVER, files)
        shake_hands(server, _context(ssl.PROTOCOL_TLS_CLIENT, files))
    except ssl.SSLCertVerificationError as error:
        return f"the certificate is refused ({error.verify_message})"
    except ssl.SSLError as error:
        return f"certificate and key cannot be used ({error.reason or error})"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    return ""


def _context(protocol: int, files: Files) -> ssl.SSLContext:
    """A context of the node's kind: TLS 1.3, certificates both ways, no names of hosts."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Do a whole handshake in memory.

    Raises:
        ssl.SSLError: one side refused the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    # ClientHello; ServerHello to Finished; the client's certificate to Finished.
    for side in (asking, answering, asking, answering):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()


class Misfit(Exception):
    """The new files do not belong together; the text says why."""


def install(files: Files, texts: dict[str, str], issued_key: str | None) -> None:
    """Replace the files that `texts` names, and the key by `issued_key`, one right after another.

    Raises:
        Misfit: they do not belong together; nothing was replaced.
    """
    new = {path: _stage(path, text) for path, text in texts.items()}
    if issued_key:
        new[files.key] = issued_key
    try:
        problem = problem_with(Files(*(new.get(path, path) for path in astuple(files))))
        if problem:
            raise Misfit(problem)
        for path in (files.ca, files.key, files.certificate):
            if path in new:
                os.replace(new[path], path)
    finally:
        for path in texts:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new[path])


def _stage(path: str, text: str) -> str:
    """Write a file beside `path`, through to the disk; returns its path."""
    staged = f"{path}.new"
    with open(staged, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), PUBLIC_MODE)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return staged


def is_open_to_others(key: str) -> bool:
    """Whether the key is there with another mode than 0600."""
    try:
        return os.stat(key).st_mode & 0o777 != KEY_MODE
    except FileNotFoundError:
        return False


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "ca": {"type": "path", "required": True},
            "certificate": {"type": "path", "required": True},
            "key": {"type": "path", "required": True, "no_log": False},
            "trusted": {"default": ""},
            "issued": {"default": ""},
            "issued_key": {"type": "path", "no_log": False},
        },
        supports_check_mode=True,
    )
    files = Files(*(module.params[name] for name in ("ca", "certificate", "key")))
    before = {path: certificates_in(path) for path in (files.ca, files.certificate)}
    wanted = {files.ca: module.params["trusted"], files.certificate: module.params["issued"]}
    texts = {path: text for path, text in wanted.items() if text and text != before[path]}
    exposed = is_open_to_others(files.key)
    try:
        if texts and not module.check_mode:
            install(files, texts, module.params["issued_key"])
        if exposed and not module.check_mode:
            os.chmod(files.key, KEY_MODE)
    except Misfit as misfit:
        module.fail_json(msg=f"Nothing was replaced, because what would be put there: {misfit}.")
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}.")
    after = {**before, **texts}
    module.exit_json(
        changed=bool(texts) or exposed,
        ca=after[files.ca],
        certificate=after[files.certificate],
        problem=problem_with(files),
        diff=[
            {"before_header": path, "before": before[path], "after_header": path, "after": text}
            for path, text in texts.items()
        ],
    )


if __name__ == "__main__":
    main()
