"""The claims of the paper that a small model can check, as experiments with committed results.

Place in the flow: `sdbench experiment NAME` finds an `Experiment` here, hands over problems, tests
and data, and `laboratory.run` does the rest. Reading order: `laboratory.py` (units, journal,
intervals, report), `answering.py` (greedy answers with everything that is counted about them);
`decoding.py`, `pools.py` and `mistakes.py` need the shipped checkpoints only, `tuning.py`,
`mixing.py`, `lengths.py` and `attending.py` train.
"""

from sdb_reference_model.experiments.attending import ATTENTION
from sdb_reference_model.experiments.decoding import AR_VS_DIFFUSION, BLOCK_SIZE
from sdb_reference_model.experiments.laboratory import Experiment
from sdb_reference_model.experiments.lengths import LENGTH_HANDLING
from sdb_reference_model.experiments.mistakes import EDIT_DISTRIBUTION
from sdb_reference_model.experiments.mixing import CORRUPTION_MIX
from sdb_reference_model.experiments.pools import TRAJECTORY_QUALITY
from sdb_reference_model.experiments.tuning import ORDER, VERIFIER_ROBUSTNESS

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        CORRUPTION_MIX,
        LENGTH_HANDLING,
        ATTENTION,
        BLOCK_SIZE,
        ORDER,
        TRAJECTORY_QUALITY,
        EDIT_DISTRIBUTION,
        VERIFIER_ROBUSTNESS,
        AR_VS_DIFFUSION,
    )
}


def find_experiment(name: str) -> Experiment:
    """Find an experiment by its name.

    Raises:
        ValueError: there is none of that name; the message lists them.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"no experiment {name!r}; use one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
