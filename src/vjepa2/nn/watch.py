"""Whether somebody looks into a module while it runs: hooks, and wrappers around `forward`.

Shortcuts that overwrite tensors, work piece by piece or use a weight without calling its module
are for modules that nobody watches.
"""

import torch
from torch import nn
from torch.nn.modules import module as module_hooks


def is_watched(*modules: nn.Module) -> bool:
    """Whether somebody sees what goes in or out of one of `modules`.

    Whoever watches must see whole tensors that nobody overwrites later (feature extractors keep
    them), and must be called once per forward (accelerate's offloading, which replaces `forward`,
    loads weights there). While compiling the answer is False: compilers see the operations.
    """
    if torch.compiler.is_compiling():
        return False
    if module_hooks._global_forward_hooks or module_hooks._global_forward_pre_hooks:
        return True
    return any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        for module in modules
    )
