"""The settings of one training run, checked before anything is loaded. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from functools import partial
from typing import Any

from stages.data.episode_shape import HEADS, PROTONET
from stages.errors import UsageError
from stages.parameters import SEEDS, check, parameter, same_parameter
from stages.threat import ThreatModel, format_eps, parse_eps
from stages.training.episode_settings import OF_EPISODES, EpisodeSettings
from stages.training.inner_attack import N_FGSM, PGD, START_NOISE, STEPS, InnerAttackSettings
from stages.training.objectives import OBJECTIVES, Objective, check_objective_name, find_objective
from stages.training.schedules import SCHEDULES
from stages.training.settings_checks import OF_ADAMW, check_optimizer, check_weights

# the panels of --help
AUGMENTATION, MODEL, METHOD, EPISODES = "Augmentation", "Model", "Objective and inner attack", "Episodes, with --objective aq"
OPTIMIZER, HARDWARE, CALIBRATION = "Optimizer", "Hardware", "Calibration"
_DEFAULT_BETAS = ", ".join(f"{one.default_beta:g} for {name}" for name, one in OBJECTIVES.items() if one.default_beta)
_EPISODES = {name: str(value) for name, value in OF_EPISODES.items()}
_OF_TEXT_TOWER = ", ".join(name for name, one in OBJECTIVES.items() if one.default_tau is None)
PRECISIONS = ("auto", "float32", "bf16")
OPTIMIZERS = ("sgd", "adamw")
# not recorded at their defaults: a run of a version without them is the same run
_LATER = ("alpha", "norm", "inner", "start_noise", "optimizer", *OF_ADAMW, "decay_norms")


@dataclass(frozen=True)
class TrainSettings(EpisodeSettings, InnerAttackSettings):
    """Everything that shapes a run; the defaults are those of Li et al., CVPR 2024, Sec. 4.1, with a narrower backbone.

    This is the only declaration of these parameters: `laat train --help`, laat.toml and recipes are made from it. Lengths such
    as `eps` are in pixel units, on the [0, 1] scale.

    Raises UsageError for a value that makes no sense, naming the option.
    """

    augment: bool = parameter(True, "Augment images: random crop, flip, rotation and colour jitter.", panel=AUGMENTATION)
    crop_padding: int = parameter(
        4, "Pixels of zeros around an image before the random crop.", panel=AUGMENTATION, at_least=0, below=2**12
    )
    rotation: float = parameter(15.0, "Largest random rotation, in degrees.", panel=AUGMENTATION, at_least=0, at_most=180)
    jitter: float = parameter(0.0, "Strength of brightness, contrast and saturation jitter.", panel=AUGMENTATION, at_least=0)

    backbone: str = parameter(
        "conv4-64", "conv4-WIDTH, resnet12, timm:NAME, clip:NAME[/TAG], or your own: package.module:factory.", panel=MODEL
    )
    drop_block: float = parameter(0.0, "DropBlock rate of resnet12. 0 is off.", panel=MODEL, at_least=0, below=1)

    objective: str = parameter(
        "laat",
        f"{'; '.join(f'{name} ({one.help})' for name, one in OBJECTIVES.items())}; or your own: package.module:Class.",
        panel=METHOD,
    )
    tau: float | None = parameter(
        None,
        "Temperature: logits are cosine / tau.",
        unset=f"1; the text tower's 1 / logit scale for {_OF_TEXT_TOWER}",
        panel=METHOD,
        positive=True,
    )
    beta: float | None = parameter(
        None,
        "Weight of the second term, smoothing or KL; of both KL terms of pmg-aft; of the attention maps of clean images of "
        "tga-zsr.",
        unset=_DEFAULT_BETAS,
        panel=METHOD,
        at_least=0,
    )
    alpha: float | None = parameter(
        None,
        "Weight of the attention maps of attacked images of tga-zsr.",
        unset=", ".join(f"{one.alpha:g} for {name}" for name, one in OBJECTIVES.items() if one.alpha is not None),
        panel=METHOD,
        at_least=0,
    )
    norm: str = same_parameter(ThreatModel, "norm", panel=METHOD)
    eps: Fraction = same_parameter(ThreatModel, "eps", help="Radius of the inner attack, for example 8/255.", panel=METHOD)
    inner: str = parameter(
        PGD,
        f"{PGD} (projected gradient ascent) or {N_FGSM}: one step from noise wider than eps, not projected, so that training "
        "images can leave the eps ball.",
        panel=METHOD,
        choices=tuple(STEPS),
    )
    start_noise: float | None = parameter(
        None,
        f"Half-width of the noise that {N_FGSM} starts from, in eps.",
        unset=f"{START_NOISE:g} for {N_FGSM}",
        panel=METHOD,
        at_least=0,
    )
    steps: int = parameter(
        None,
        "Steps of the inner attack. With 1 or 2, epochs are scored under PGD-7.",
        unset=f"{STEPS[PGD]}; {STEPS[N_FGSM]} for {N_FGSM}",
        panel=METHOD,
        at_least=1,
    )
    step_size: Fraction | None = parameter(
        None,
        "Step size of the inner attack, for example 2/255.",
        unset=f"eps/4; eps for {N_FGSM}",
        panel=METHOD,
        positive=True,
        parse=partial(parse_eps, norm="L2"),  # the largest that any norm allows; that of the norm is checked below
    )
    head: str | None = parameter(
        None,
        "Head of each episode: protonet (nearest class mean) or r2d2 (ridge regression).",
        unset=PROTONET,
        panel=EPISODES,
        choices=HEADS,
    )
    ways: int | None = parameter(None, "Classes per episode.", unset=_EPISODES["ways"], panel=EPISODES, at_least=2, below=2**20)
    shots: int | None = parameter(
        None, "Support images per class, clean.", unset=_EPISODES["shots"], panel=EPISODES, at_least=1, below=2**20
    )
    queries: int | None = parameter(
        None, "Query images per class, attacked.", unset=_EPISODES["queries"], panel=EPISODES, at_least=1
    )
    episodes_per_step: int | None = parameter(
        None, "Episodes per step.", unset=_EPISODES["episodes_per_step"], panel=EPISODES, at_least=1, below=2**20
    )
    steps_per_epoch: int | None = parameter(
        None, "Steps that make an epoch of episodes.", unset="as many as cover the images once", panel=EPISODES, at_least=1
    )
    awp: float = parameter(
        0.0, "Gamma of adversarial weight perturbation, for example 0.005. 0 is off.", panel=METHOD, at_least=0
    )

    epochs: int = parameter(100, "Number of training epochs.", panel=OPTIMIZER, at_least=1)
    batch_size: int = parameter(128, "Batch size, over all processes.", panel=OPTIMIZER, at_least=2)
    accumulate: int = parameter(
        1,
        "Micro-batches a batch is split into, to need less memory. Batch norm uses the statistics of each.",
        panel=OPTIMIZER,
        at_least=1,
    )
    grad_checkpointing: bool = parameter(
        False, "Recompute activations in the backward pass: less memory, more time, the same result.", panel=OPTIMIZER
    )
    optimizer: str = parameter(
        "sgd", "sgd (with momentum) or adamw, which needs an --lr of its own.", panel=OPTIMIZER, choices=OPTIMIZERS
    )
    lr: float = parameter(0.05, "Highest learning rate.", panel=OPTIMIZER, positive=True)
    schedule: str = parameter(
        "step", "step (x 0.1 after 60 % of the epochs), cosine or one-cycle.", panel=OPTIMIZER, choices=SCHEDULES
    )
    warm_up: float = parameter(0.0, "Epochs of linear learning-rate warm-up; may be a fraction.", panel=OPTIMIZER, at_least=0)
    weight_decay: float = parameter(5e-4, "Weight decay.", panel=OPTIMIZER, at_least=0)
    decay_norms: bool = parameter(
        True, "Weight decay on norms, biases and other vectors too, not only on matrices and kernels.", panel=OPTIMIZER
    )
    momentum: float = parameter(0.9, "Momentum of SGD.", panel=OPTIMIZER, at_least=0)
    adam_beta1: float = parameter(0.9, "AdamW: decay of the average of the gradients.", panel=OPTIMIZER, at_least=0, below=1)
    adam_beta2: float = parameter(0.999, "AdamW: decay of the average of their squares.", panel=OPTIMIZER, at_least=0, below=1)
    adam_eps: float = parameter(1e-8, "AdamW: added to the root of that average.", panel=OPTIMIZER, positive=True)
    clip_norm: float | None = parameter(None, "Clip the gradient to this L2 norm.", panel=OPTIMIZER, positive=True)
    ema: float = parameter(
        0.0,
        "Decay of the moving average of the weights, which is then scored and saved. 0 is off.",
        panel=OPTIMIZER,
        at_least=0,
        below=1,
    )

    seen_bias: bool = parameter(
        True,
        "With validation classes, hold out images of the seen classes to fit their bias: about 5 %, or 100 in all if that is "
        "more; at most 1,000 in all and a fifth of each class, but one at least.",
        panel=CALIBRATION,
    )

    precision: str = parameter(
        "auto", "float32, bf16 (matrix products only), or auto: bf16 on GPUs that have it.", panel=HARDWARE, choices=PRECISIONS
    )
    attack_precision: str = parameter(
        "auto",
        "Precision of the inner attack's passes, float32 or bf16; auto: that of --precision, and without one also bf16 on CPUs "
        "that have units for it.",
        panel=HARDWARE,
        choices=PRECISIONS,
    )
    seed: int = parameter(0, "Random seed.", at_least=0, below=SEEDS)

    def __post_init__(self) -> None:
        check_objective_name(self.objective)
        threat = ThreatModel(self.eps, self.norm)
        object.__setattr__(self, "norm", threat.norm.casefold())
        object.__setattr__(self, "eps", threat.eps)
        if isinstance(self.step_size, str | float | int):  # from Python, like eps
            object.__setattr__(self, "step_size", ThreatModel(self.step_size, self.norm).eps)
        self.resolve_inner()
        check(self)
        if self.step_size is not None:
            ThreatModel(self.step_size, self.norm)  # raises for a length that is none of the norm
        if self.objective != "clean" and self.eps == 0:
            raise UsageError("--eps is 0, so there is no attack to train against", "use --objective clean, or --eps 8/255")
        if self.objective in OBJECTIVES:
            self.check_episodic(episodic=OBJECTIVES[self.objective].episodic)
        if self.objective in OBJECTIVES or self.alpha is not None:
            check_weights(find_objective(self.objective), self)
        check_optimizer(self, _defaults())

    @property
    def anchored(self) -> bool:
        """Whether the objective trains against the anchors, at a temperature; True of your own, which may."""
        return self.objective not in OBJECTIVES or OBJECTIVES[self.objective].anchored

    @property
    def temperature(self) -> float:
        """`tau`, or its default for the objective. Raises UsageError where that is the text tower's (see `with_tau`)."""
        found = self._tau
        if found is None:
            raise UsageError(f"{self.objective} needs the logit scale of a text tower as 1 / tau", "add --tau 0.01")
        return found

    @property
    def _tau(self) -> float | None:
        return find_objective(self.objective).default_tau if self.tau is None else self.tau

    def with_precision(self, *, has_bf16: bool, bf16_units: bool = False, attacks: bool = True) -> TrainSettings:
        """These settings with the precisions that 'auto' means on a device.

        Args:
            has_bf16: whether it runs all of a step in bfloat16, see `devices.has_bf16`.
            bf16_units: whether it is a CPU that has units for bfloat16, see `devices.bf16_units`.
            attacks: whether the objective has an inner attack.
        """
        outer = ("bf16" if has_bf16 else "float32") if self.precision == "auto" else self.precision
        if not attacks:
            inner = outer
        elif self.attack_precision != "auto":
            inner = self.attack_precision
        else:
            inner = "bf16" if self.precision == "auto" and bf16_units else outer
        return replace(self, precision=outer, attack_precision=inner)

    @property
    def half_attack(self) -> bool:
        """Whether the inner attack runs in bfloat16."""
        return (self.precision if self.attack_precision == "auto" else self.attack_precision) == "bf16"

    def to_record(self, kind: type[Objective] | None = None) -> dict[str, Any]:
        """JSON-able form, eps and step size as fractions; without `grad_checkpointing`, which does not change the result,
        `seen_bias`, which does so with validation classes alone (see `Task.identity`), and the defaults of newer settings.
        Those of episodes are recorded for episodic objectives; `kind` is the class of the objective, unless it is the named
        one."""
        norm = self.threat.norm
        lengths = {"eps": format_eps(self.eps, norm), "step_size": format_eps(self.step, norm)}
        record = {**asdict(self), **lengths, "tau": self._tau}
        defaults = _defaults()
        if (kind or find_objective(self.objective)).episodic:
            record |= self.episode_values
            record["batch_size"] = self.episodes * self.episode.images
        record = {name: value for name, value in record.items() if value is not None or name not in OF_EPISODES}
        for name in ("grad_checkpointing", "seen_bias", *(name for name in _LATER if record[name] == defaults[name])):
            del record[name]
        return record


def _defaults() -> dict[str, Any]:
    return {one.name: one.default for one in fields(TrainSettings)}
