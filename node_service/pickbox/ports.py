"""What to tell an operator whose port cannot be had."""

from __future__ import annotations


def cannot_listen(setting: str, host: str, port: int, error: OSError) -> str:
    """A sentence that names the setting, the port, and what to do.

    Args:
        setting: the field of `Settings` that the port comes from.
    """
    variable = f"PICKBOX_{setting.upper()}"
    if "Address already in use" in str(error):
        return (
            f"{variable}: port {port} on {host} is already in use by another process; stop that "
            f"process (`ss -ltnp 'sport = :{port}'` shows it) or choose another port"
        )
    reason = str(error).rpartition("] ")[2].rstrip(")")
    return f"{variable}: cannot listen on {host} port {port}: {reason}"
