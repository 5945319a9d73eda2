"""Test set-up: lets a torchvision that was built for CUDA be imported beside a CPU build of torch.

Such a torchvision cannot load its compiled operators there, and stops on registering shapes for
operators that nobody declared. Nothing in these tests calls them (they belong to box suppression),
so their names are declared, without an implementation, just before the registration runs. A .pth
file imports this module when Python starts, so that the processes that vLLM spawns have it too.
"""

import sys
from importlib.abc import MetaPathFinder

REGISTRATION = "torchvision._meta_registrations"
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
KEPT_ALIVE = []  # declarations vanish with the object that made them


class DeclareMissingOperators(MetaPathFinder):
    """Finds nothing: watches for one module's import and declares the operators it refers to."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == REGISTRATION:
            sys.meta_path.remove(self)
            self.declare()

    @staticmethod
    def declare():
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(name + SCHEMA)
        KEPT_ALIVE.append(library)


sys.meta_path.insert(0, DeclareMissingOperators())
