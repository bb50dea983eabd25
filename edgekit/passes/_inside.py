"""Following a teacher inside: hidden states, attention maps and features of named modules, not only outputs.

What is compared is decided as plain data (:class:`Point`). Hooks catch it while a module runs and are gone when it has run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.core.errors import RecipeError, closest
from edgekit.core.modules import outputs_of
from edgekit.core.schema import Schema
from edgekit.passes._engine import predictions
from edgekit.passes._objectives import Lesson, mixed_loss, taught
from edgekit.passes._stack import Stack, configuration, find_stack

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Batch
    from edgekit.core.plugin import Task
    from edgekit.passes._engine import Objective, Tensors

Kind = Literal["embedding", "hidden", "attention", "features"]
Seen = dict[str, Any]
"""What was caught at each point, by kind and module."""


class DeepLesson(Lesson):
    """What is followed beside outputs and labels; a weight of 0 leaves it out.

    Each difference is relative to the teacher's power, so that a weight means the same whatever the scale of the values, and is the mean
    over all layers or modules. Padding is left out. Where widths differ, a linear map (a 1x1 convolution for pictures) from the student's
    to the teacher's is trained along and thrown away.

    References: Jiao et al. 2020, "TinyBERT" (arXiv:1909.10351) for hidden states, embeddings and attention; Romero et al. 2015, "FitNets"
    (arXiv:1412.6550) for features.
    """

    hidden: float = Field(0.0, ge=0, description="Weight of the embeddings and of the hidden states after each layer of a transformer.")
    attention: float = Field(0.0, ge=0, description="Weight of the attention maps of each layer of a Transformers model.")
    layers: tuple[int, ...] = Field((), description="The teacher's layer, from 0, that each of the student's follows; evenly by default.")
    features: dict[str, str] = Field(
        default_factory=dict, description="Student's modules whose outputs follow a teacher's: {own: teacher's}."
    )
    features_weight: float = Field(1.0, gt=0, description="Weight of the features.")

    @property
    def weights(self) -> dict[Kind, float]:
        """Weight of each kind of point."""
        return {"embedding": self.hidden, "hidden": self.hidden, "attention": self.attention, "features": self.features_weight}


class Point(Schema):
    """One thing to compare: what a module of the student gives, and one of the teacher's.

    Attributes:
        kind: what is caught there.
        student: the student's module.
        teacher: the teacher's.
        widths: channels, hidden units or heads of the two.
        picture: whether both are pictures [N, C, H, W]; their width is the second axis, everybody else's the last.
    """

    kind: Kind
    student: str
    teacher: str
    widths: tuple[int, int]
    picture: bool = False


def find_points(student: torch.nn.Module, teacher: torch.nn.Module, lesson: DeepLesson, example: Batch) -> list[Point]:
    """Decide what is compared with what, and measure the widths on an example.

    Raises:
        RecipeError: no such module or layer, no attention maps, or things that can't be compared.
    """
    pairs: list[tuple[Kind, str, str]] = []
    with attention_formed(lesson, student, teacher):
        if lesson.hidden or lesson.attention:
            own, wanted = find_stack(student), find_stack(teacher)
            followed = _followed(own, wanted, lesson.layers)
            if lesson.hidden:
                pairs.append(("embedding", own.layer(0), wanted.layer(0)))
                pairs += [("hidden", own.layer(i), wanted.layer(j)) for i, j in enumerate(followed)]
            if lesson.attention:
                maps = _attention_modules(student, own, example), _attention_modules(teacher, wanted, example)
                pairs += [("attention", maps[0][i], maps[1][j]) for i, j in enumerate(followed)]
        for mine, others in lesson.features.items():
            pairs.append(("features", _known(student, mine), _known(teacher, others)))
        of_student = _caught(student, [(kind, name) for kind, name, _ in pairs], example)
        of_teacher = _caught(teacher, [(kind, name) for kind, _, name in pairs], example)
    return [_point(kind, s, t, of_student, of_teacher) for kind, s, t in pairs]


def projections(points: Sequence[Point], seed: int) -> torch.nn.ModuleList:
    """Make a map from the student's to the teacher's width for each point; nothing where they agree."""
    import torch
    from torch import nn

    def between(point: Point) -> nn.Module:
        if point.widths[0] == point.widths[1]:
            return nn.Identity()
        return nn.Conv2d(*point.widths, kernel_size=1) if point.picture else nn.Linear(*point.widths)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleList(between(point) for point in points)


def from_inside(
    task: Task, teacher: torch.nn.Module, lesson: DeepLesson, points: Sequence[Point], helper: torch.nn.ModuleList
) -> Objective:
    """Ask for the teacher's outputs, for the labels as far as the lesson says, and for what is caught at the points."""
    number = Counter(point.kind for point in points)

    def objective(module: torch.nn.Module, inputs: Tensors, labels: Sequence[Any]) -> torch.Tensor:
        with watched(module, [(point.kind, point.student) for point in points]) as own:
            outputs = predictions(module, inputs)
        with watched(teacher, [(point.kind, point.teacher) for point in points]) as wanted:
            loss = mixed_loss(task, outputs, taught(teacher, inputs), labels, lesson)
        for point, project in zip(points, helper, strict=True):
            mine, others = project(_at(own, point.kind, point.student)), _at(wanted, point.kind, point.teacher)
            weight = lesson.weights[point.kind] / number[point.kind]
            loss = loss + weight * difference(mine, others, _visible(point.kind, inputs))
        return loss

    return objective


def difference(own: torch.Tensor, wanted: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
    """Squared difference relative to the teacher's power; pictures of different sizes are averaged down to the smaller one.

    Args:
        own: what the student gives.
        wanted: what the teacher gives, as wide.
        visible: 1 where the values count, 0 where not, in a shape that fits by broadcasting; None where all do.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    own, wanted = own.float(), wanted.float()
    if own.ndim == 4 and own.shape[2:] != wanted.shape[2:]:
        size = (min(own.shape[2], wanted.shape[2]), min(own.shape[3], wanted.shape[3]))
        own, wanted = adaptive_avg_pool2d(own, size), adaptive_avg_pool2d(wanted, size)
    if visible is not None:
        own, wanted = own * visible, wanted * visible
    return ((own - wanted) ** 2).sum() / (wanted**2).sum().clamp_min(1e-12)


@contextmanager
def watched(module: torch.nn.Module, places: Sequence[tuple[Kind, str]]) -> Iterator[Seen]:
    """Catch what passes at some places for as long as it lasts."""
    seen: Seen = {}
    handles = []
    try:
        for kind, name in places:
            inner, key = module.get_submodule(name), _key(kind, name)
            if kind == "embedding":
                handles.append(inner.register_forward_pre_hook(partial(_catch_input, seen, key), with_kwargs=True))
            else:
                handles.append(inner.register_forward_hook(partial(_catch_output, seen, key, 1 if kind == "attention" else 0)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def attention_formed(lesson: DeepLesson, *modules: torch.nn.Module) -> Iterator[None]:
    """Let Transformers models form attention maps, where the lesson wants them: fused kernels never do.

    Raises:
        RecipeError: another kind of model.
    """
    switched = modules if lesson.attention else ()
    configs = [config for module in switched if (config := configuration(module))]
    if len(configs) < len(switched):
        raise RecipeError("attention maps are known of Transformers models only", hint="follow named modules: lesson: {features: ...}")
    before = [config._attn_implementation for config in configs]
    try:
        for module in switched:
            module.set_attn_implementation("eager")  # type: ignore[operator]
        yield
    finally:
        for module, implementation in zip(switched, before, strict=True):
            module.set_attn_implementation(implementation)  # type: ignore[operator]


def _followed(own: Stack, wanted: Stack, layers: Sequence[int]) -> list[int]:
    """Teacher's layer for each of the student's; by default the last of each even part, as in TinyBERT."""
    count, total = len(own.layers), len(wanted.layers)
    if not layers:
        return [-(-(i + 1) * total // count) - 1 for i in range(count)]
    if len(layers) != count or not all(0 <= layer < total for layer in layers):
        raise RecipeError(
            f"lesson: layers is {list(layers)}; the student has {count} layers, the teacher's are 0 to {total - 1}",
            hint="name one of the teacher's layers for each of the student's",
        )
    return list(layers)


def _known(module: torch.nn.Module, name: str) -> str:
    known = dict(module.named_modules())
    if name not in known:
        raise RecipeError(f"features: {type(module).__name__} has no module {name!r}", hint=closest(name, known))
    return name


def _attention_modules(module: torch.nn.Module, stack: Stack, example: Batch) -> list[str]:
    """Name of the module of each layer that returns its attention maps."""
    import torch

    found: dict[int, str] = {}

    def look(index: int, name: str, _: torch.nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, tuple) and len(output) > 1 and isinstance(output[1], torch.Tensor) and output[1].ndim == 4:
            found.setdefault(index, name)

    handles = [
        inner.register_forward_hook(partial(look, index, f"{stack.layer(index)}.{name}"))
        for index, layer in enumerate(stack.layers)
        for name, inner in layer.named_modules()
        if name
    ]
    try:
        outputs_of(module, [example])
    finally:
        for handle in handles:
            handle.remove()
    if len(found) < len(stack.layers):
        raise RecipeError(f"{type(module).__name__} shows no attention maps in {stack.name}", hint="leave lesson.attention at 0")
    return [found[index] for index in range(len(stack.layers))]


def _caught(module: torch.nn.Module, places: Sequence[tuple[Kind, str]], example: Batch) -> Seen:
    with watched(module, places) as seen:
        outputs_of(module, [example])
    return seen


def _point(kind: Kind, student: str, teacher: str, of_student: Seen, of_teacher: Seen) -> Point:
    own, wanted = _at(of_student, kind, student), _at(of_teacher, kind, teacher)
    picture = own.ndim == 4
    axis = 1 if picture else -1
    point = Point(kind=kind, student=student, teacher=teacher, widths=(own.shape[axis], wanted.shape[axis]), picture=picture)
    told = f"{kind}: {student} gives {list(own.shape)}, the teacher's {teacher} {list(wanted.shape)}"
    if own.ndim != wanted.ndim or own.ndim < 2 or (not picture and own.shape[:-1] != wanted.shape[:-1]):
        raise RecipeError(told, hint="only the width may differ, and the size of pictures")
    if kind == "attention" and own.shape != wanted.shape:
        raise RecipeError(told, hint="attention maps need as many heads on both sides; leave lesson.attention at 0")
    return point


def _at(seen: Seen, kind: Kind, name: str) -> torch.Tensor:
    """What was caught at a place.

    Raises:
        RecipeError: the module did not run, or gives something else than a tensor.
    """
    import torch

    value = seen.get(_key(kind, name))
    if value is None:
        raise RecipeError(f"{kind}: {name} did not run", hint="follow modules that always run; set a layerdrop of the model to 0")
    if not isinstance(value, torch.Tensor):
        raise RecipeError(f"{kind}: {name} gives {type(value).__name__}, not a tensor", hint="follow a module that gives a tensor")
    return value


def _visible(kind: Kind, inputs: Tensors) -> torch.Tensor | None:
    """Where a sequence is no padding: for each token, or for each row of an attention map."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.ndim != 2 or kind == "features":
        return None
    return mask[:, None, :, None] if kind == "attention" else mask[:, :, None]


def _key(kind: Kind, name: str) -> str:
    return f"{kind} {name}"


def _catch_output(seen: Seen, key: str, index: int, _: torch.nn.Module, __: Any, output: Any) -> None:
    if isinstance(output, (tuple, list)):
        seen[key] = output[index]
    elif index == 0:
        seen[key] = output


def _catch_input(seen: Seen, key: str, _: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    seen[key] = positional[0] if positional else named["hidden_states"]
