"""The numbers of a training run as TensorBoard events.

Place in the flow: training hands every line of its log to a callable; this is one of those.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sdb_harness.errors import UserError


class TensorBoard:
    """Writes one scalar per number; what a killed run wrote behind its saved state is purged."""

    def __init__(self, folder: Path) -> None:
        """Write nothing yet.

        Raises:
            UserError: if the package is missing.
        """
        if find_spec("tensorboard") is None:
            raise UserError(
                "--tensorboard needs one more package; "
                "pip install seed-diffusion-bench[tensorboard]"
            )
        self.folder = folder
        self.writer: Any = None

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the numbers of one line of the log."""
        if self.writer is None:
            # Not before: where a resumed run goes on is known with its first line.
            torch_tensorboard = import_module("torch.utils.tensorboard")
            self.writer = torch_tensorboard.SummaryWriter(str(self.folder), purge_step=step)
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()
