"""Static int8 for OpenVINO: NNCF places the quantizers where OpenVINO's kernels look for them, and corrects biases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import openvino_ir
from edgekit.core.chatter import innermost, muted
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Quantizer
from edgekit.quantizers import _openvino, _openvino_trials
from edgekit.quantizers._openvino_sensitivity import with_floats
from edgekit.quantizers._openvino_trained import layers_with, put_ranges, trained_ranges
from edgekit.quantizers._trained import marked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.core.artifacts import Artifact
    from edgekit.core.plugin import Context
    from edgekit.core.quantization import Int8Scheme, LayerPlan
    from edgekit.core.trials import Trials


class OpenVinoInt8Static(Quantizer):
    """Quantize weights and activations to 8 bits after calibration, with fast bias correction.

    References: Jacob et al. 2018 (arXiv:1712.05877); bias correction: Nagel et al. 2019 (arXiv:1906.04721), section 4.2;
    for transformers SmoothQuant: Xiao et al. 2023 (arXiv:2211.10438); for ``min_sqnr`` Lin et al. 2016 (arXiv:1511.06393).
    """

    accepts = "openvino"
    precision = "int8-static"
    calibrates = True
    requires = {"openvino": "openvino", "nncf": "nncf"}
    packages = ("openvino", "nncf")

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each layer's precision, as NNCF will place its quantizers; with ``min_sqnr`` by measuring each layer's noise.

        Raises:
            QuantizationError: a setting that NNCF lacks, a pattern that matches no layer, nothing left to quantize, or ``min_sqnr`` can't
                be reached.
        """
        graph = openvino_ir.read(model.model)
        scheme = wanted_scheme(context)
        with muted():
            found = self._quantizable(graph, scheme)
        plan = _openvino.layer_plan(graph, found, self.precision, self.spec, reason="NNCF finds no int8 kernel for it")
        plan = marked(plan, layers_with(graph, trained_ranges(model, self.spec, context)))
        if self.spec.min_sqnr is None:
            return plan

        def quantized(floats: Sequence[str]) -> Any:
            return self._quantized(model, floats, context)

        return with_floats(plan, model, quantized, self.spec.min_sqnr, _openvino.calibration_set(context), context)

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Calibrate and write the quantized IR.

        Raises:
            QuantizationError: no calibration samples, or NNCF fails on the model.
        """
        names = _openvino.names_of(openvino_ir.read(model.model))
        made = self._quantized(model, _openvino.kept_in_float(plan, self.precision), context)
        return _openvino.write(made, names, plan, model, out, self.precision)

    def trials(self, model: Artifact, plan: list[LayerPlan], context: Context) -> Trials:
        """Run NNCF once for many variants of a plan; a layer in float is as it was before.

        Raises:
            QuantizationError: no calibration samples, or a target without int8 kernels for this format.
        """
        made = self._quantized(model, _openvino.kept_in_float(plan, self.precision), context)
        return _openvino_trials.trials(model, plan, made, self.precision)

    def _quantized(self, model: Artifact, floats: Sequence[str], context: Context) -> Any:
        graph = openvino_ir.read(model.model)
        samples = _openvino.Samples(context, self.spec.samples)
        scheme = wanted_scheme(context)
        trained = trained_ranges(model, self.spec, context)
        made = self._by_library(graph, floats, samples, self._settings(graph, scheme), trained=bool(trained))
        put_ranges(made, trained, symmetric=scheme.symmetric)
        return made

    def _by_library(self, graph: Any, floats: Sequence[str], samples: Any, settings: dict[str, Any], *, trained: bool) -> Any:
        with muted(), _openvino.running_statistics():
            import nncf

            try:
                return nncf.quantize(
                    graph,
                    nncf.Dataset(samples),
                    subset_size=len(samples),
                    fast_bias_correction=True,
                    ignored_scope=nncf.IgnoredScope(names=list(floats)),
                    preset=settings["preset"],
                    model_type=settings["model_type"],
                    advanced_parameters=self._advanced(settings, trained=trained),
                )
            except (RuntimeError, ValueError, nncf.InternalError) as problem:
                raise QuantizationError(
                    f"NNCF can't quantize this model: {innermost(problem)}", hint="exclude the layer it names"
                ) from problem

    def _settings(self, graph: Any, scheme: Int8Scheme) -> dict[str, Any]:
        """The spec and the target's scheme in NNCF's words.

        Raises:
            QuantizationError: NNCF has no such calibration.
        """
        import nncf
        from nncf.quantization.advanced_parameters import OverflowFix, QuantizationParameters

        return {
            "preset": nncf.QuantizationPreset.PERFORMANCE if scheme.symmetric else nncf.QuantizationPreset.MIXED,
            "model_type": nncf.ModelType.TRANSFORMER if is_transformer(graph) else None,
            "overflow_fix": OverflowFix.ENABLE if scheme.reduce_range else OverflowFix.DISABLE,
            "weights": QuantizationParameters(per_channel=self.spec.granularity == "channel"),
            "activations": QuantizationParameters(
                per_channel=False if self.spec.calibration == "mse" else None,  # NNCF's histograms count whole tensors
            ),
            "ranges": self._ranges(),
        }

    def _ranges(self) -> Any:
        from nncf.quantization.range_estimator import (
            AggregatorType,
            RangeEstimatorParameters,
            RangeEstimatorParametersSet,
            StatisticsCollectorParameters,
            StatisticsType,
        )

        if self.spec.calibration == "minmax":
            return RangeEstimatorParametersSet.MINMAX
        if self.spec.calibration == "percentile":
            cut = (100 - self.spec.percentile) / 200
            side = StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=cut)
            return RangeEstimatorParameters(min=side, max=side)
        if self.spec.calibration == "mse":
            return RangeEstimatorParametersSet.HISTOGRAM
        raise QuantizationError(
            f"OpenVINO's quantizer has no {self.spec.calibration} calibration",
            hint="use calibration: minmax, percentile or mse, or format onnx",
        )

    def _advanced(self, settings: dict[str, Any], *, trained: bool) -> Any:
        """The settings as NNCF takes them; what was trained is left as it is: biases, scales between channels, one range a tensor."""
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

        kept = {"disable_bias_correction": True, "smooth_quant_alphas": AdvancedSmoothQuantParameters(matmul=-1, convolution=-1)}
        return AdvancedQuantizationParameters(
            overflow_fix=settings["overflow_fix"],
            weights_quantization_params=settings["weights"],
            activations_quantization_params=settings["activations"],
            activations_range_estimator_params=settings["ranges"],
            **(kept if trained else {}),
        )

    def _quantizable(self, graph: Any, scheme: Int8Scheme) -> set[str]:
        """Layers that NNCF computes in int8: those whose weights it quantizes, and those whose every input is quantized."""
        from nncf.common.factory import build_graph
        from nncf.common.graph.transformations.commands import TargetType
        from nncf.quantization.algorithms.min_max.algorithm import MinMaxQuantization

        settings = self._settings(graph, scheme)
        algorithm = MinMaxQuantization(
            preset=settings["preset"],
            model_type=settings["model_type"],
            overflow_fix=settings["overflow_fix"],
            weights_quantization_params=settings["weights"],
            activations_quantization_params=settings["activations"],
        )
        points = algorithm.get_statistic_points(graph, build_graph(graph))
        kinds = {name: {point.target_point.type for point in at} for name, at in points.items()}
        weighted = {name for name, types in kinds.items() if TargetType.OPERATION_WITH_WEIGHTS in types}
        fed = {name for name, types in kinds.items() if TargetType.PRE_LAYER_OPERATION in types}
        sources = {name for name, types in kinds.items() if TargetType.POST_LAYER_OPERATION in types}
        others = {node.get_friendly_name() for node in openvino_ir.layers(graph) if _reads_int8(node, sources)}
        return weighted | fed | others


def wanted_scheme(context: Context) -> Int8Scheme:
    """Return what the target's int8 kernels expect.

    Raises:
        QuantizationError: the target has no int8 kernels for OpenVINO, or wants a grid that OpenVINO does not have.
    """
    if context.scheme is None:
        raise QuantizationError("the target says not what its int8 kernels expect", hint="choose a target with int8 units, or fp16")
    if context.scheme.symmetric and context.scheme.activations == "int8":
        raise QuantizationError(
            "OpenVINO's symmetric int8 is unsigned where values are never negative; the target wants it signed everywhere",
            hint="give the target's openvino backend int8: {activations: uint8, symmetric: false, ...}",
        )
    return context.scheme


def is_transformer(graph: Any) -> bool:
    """Whether a graph multiplies activations with each other after a softmax and has more matrix products than convolutions."""
    kinds = [node.get_type_name() for node in graph.get_ops()]
    products = [node for node in graph.get_ops() if node.get_type_name() == "MatMul" and not openvino_ir.is_weighted(node)]
    attention = bool(products) and any("oftmax" in kind.lower() for kind in kinds)
    return ("ScaledDotProductAttention" in kinds or attention) and kinds.count("MatMul") > sum("Convolution" in kind for kind in kinds)


def _reads_int8(node: Any, sources: set[str]) -> bool:
    producers = [value.get_node() for value in node.input_values()]
    moving = [p for p in producers if p.get_type_name() != "Constant"]
    return bool(moving) and all(_is_int8(p, sources) for p in moving)


def _is_int8(node: Any, sources: set[str]) -> bool:
    if node.get_friendly_name() in sources:
        return True
    if node.get_type_name() not in _openvino.PASSING:
        return False
    moving = [value.get_node() for value in node.input_values() if value.get_node().get_type_name() != "Constant"]
    return bool(moving) and all(_is_int8(p, sources) for p in moving)
