# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Renders a template where the variables are, before the module `file` sends it to the cluster."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader

MODULE = "pickbox.cluster.file"


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible asks for. The module does all the rest, and documents both."""

    _supports_check_mode = True
    _supports_diff = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Run the module with the rendered template as content, if one is given."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        # What contradicts itself is for the module to refuse, whose words name the options.
        if arguments.get("template") and not {"content", "src"} & arguments.keys():
            arguments["content"] = self._rendered(arguments.pop("template"), task_vars)
        done = self._execute_module(
            module_name=MODULE,
            module_args=arguments,
            task_vars=task_vars,
            wrap_async=self._task.async_val,
        )
        return {**result, **done}

    def _rendered(self, template: str, variables: Any) -> str:
        lookup = lookup_loader.get(
            "ansible.builtin.template", loader=self._loader, templar=self._templar
        )
        (text,) = lookup.run([template], variables)
        return str(text)
