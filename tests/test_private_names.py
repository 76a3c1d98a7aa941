"""Private names of ray, optuna, mlflow and torch that the project uses: their next version may lack them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.places import ROOT

LIBRARIES = ("ray", "optuna", "mlflow", "torch", "torchvision")
PACKAGES = ("tinytl", "search_spaces", "tuner")
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}
IN_TEXT = re.compile(rf"\b(?:{'|'.join(LIBRARIES)})(?:\.\w+)*\._\w+")
"""Such a name in a string: a module that another process imports."""
KNOWN = frozenset(
    {
        ("tinytl/data/sets/cars.py", "_samples"),
        ("tinytl/data/sets/food101.py", "_image_files"),
        ("tinytl/data/sets/food101.py", "_labels"),
        ("tinytl/export/training/shapes.py", "_unsafe_view"),
        ("tinytl/export/training/traced_step.py", "_is_view"),
        ("tinytl/export/training/translation.py", "_schema"),
        ("tinytl/export/training/translation.py", "_to_copy"),
        ("tinytl/gradient_checkpoints/function.py", "_version"),
        ("tinytl/gradient_checkpoints/function.py", "torch.utils._pytree.tree_leaves"),
        ("tinytl/gradient_checkpoints/recompute.py", "_buffers"),
        ("tinytl/gradient_checkpoints/recompute.py", "torch.nn.modules.batchnorm._NormBase"),
        ("tinytl/gradient_checkpoints/recompute.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/gradient_checkpoints/segment.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/gradient_checkpoints/segment.py", "torch.utils._pytree.tree_leaves"),
        ("tinytl/networks/backbones/named.py", "torch.nn.modules.batchnorm._BatchNorm"),
        ("tinytl/networks/frozen_batch_norm.py", "torch.nn.modules.batchnorm._BatchNorm"),
        ("tinytl/memory/any_step.py", "torch.nn.modules.batchnorm._BatchNorm"),
        ("tinytl/memory/any_step.py", "torch.utils._pytree.tree_leaves"),
        ("tinytl/memory/any_step.py", "torch.utils._pytree.tree_map"),
        ("tinytl/memory_efficient/batch.py", "torch.utils._pytree.tree_leaves"),
        ("tinytl/memory_efficient/batch.py", "torch.utils._pytree.tree_map"),
        ("tinytl/memory/fake_convolution.py", "_C"),
        ("tinytl/memory_efficient/block/reading.py", "torch.nn.modules.batchnorm._BatchNorm"),
        ("tinytl/memory_efficient/block/reading.py", "torch.nn.modules.conv._ConvNd"),
        ("tinytl/networks/backbones/sequence.py", "_DropoutNd"),
        ("tinytl/memory_efficient/lean_samplewise.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/memory_efficient/lean_samplewise.py", "torch.nn.modules.batchnorm._BatchNorm"),
        ("tinytl/memory_efficient/lean_samplewise.py", "torch.nn.utils.stateless._reparametrize_module"),
        ("tinytl/networks/backbones/inverted_residual.py", "torchvision.models.mnasnet._InvertedResidual"),
        ("tinytl/memory/fake_convolution.py", "_conv_determine_backend_memory_format"),
        ("tinytl/memory/fake_convolution.py", "_select_conv_backend"),
        ("tinytl/memory/fake_convolution.py", "torch.utils._mode_utils.no_dispatch"),
        ("tinytl/memory/fake_tensors.py", "_schema"),
        ("tinytl/memory/known_forms.py", "_schema"),
        ("tinytl/memory/known_forms.py", "torch._ops.OpOverload"),
        ("tinytl/memory/known_forms.py", "torch._prims_common"),
        ("tinytl/memory/light_fake_mode.py", "_C"),
        ("tinytl/memory/light_fake_mode.py", "_TorchDispatchModeKey"),
        ("tinytl/memory/light_fake_mode.py", "_nnpack_available"),
        ("tinytl/memory/light_fake_mode.py", "torch._dynamo"),
        ("tinytl/memory/light_fake_mode.py", "torch._subclasses.fake_tensor.FakeTensorMode"),
        ("tinytl/memory/light_fake_mode.py", "torch.utils._mode_utils.no_dispatch"),
        ("tinytl/memory/light_fake_mode.py", "torch.utils._python_dispatch.TorchDispatchMode"),
        ("tinytl/training/optimizers.py", "torch._dynamo"),
        ("tinytl/memory/fake_tensors.py", "_cdata"),
        ("tinytl/memory/fake_tensors.py", "_make_subclass"),
        ("tinytl/memory/fake_tensors.py", "torch._ops.OpOverload"),
        ("tinytl/memory/fake_tensors.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/device.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/networks/stored_weights.py", "_buffers"),
        ("tinytl/networks/stored_weights.py", "_parameters"),
        ("tinytl/networks/upsample.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/memory/fake_tensors.py", "torch._subclasses.fake_tensor.FakeTensorMode"),
        ("tinytl/memory/fake_tensors.py", "torch.utils._mode_utils.no_dispatch"),
        ("tinytl/memory/absent_gpu.py", "_execution_engine"),
        ("tinytl/memory/measure.py", "_C"),
        ("tinytl/memory/measure.py", "_cdata"),
        ("tinytl/memory/measure.py", "_cuda_clearCublasWorkspaces"),
        ("tinytl/memory/fake_step.py", "torch._subclasses.fake_tensor.DataDependentOutputException"),
        ("tinytl/memory/fake_step.py", "torch._subclasses.fake_tensor.DynamicOutputShapeException"),
        ("tinytl/memory/fake_step.py", "torch._subclasses.fake_tensor.UnsupportedOperatorException"),
        ("tinytl/memory/stock_inference.py", "torch._subclasses.fake_tensor.FakeTensorMode"),
        ("tinytl/memory/storage_tracker.py", "_cdata"),
        ("tinytl/memory/storage_tracker.py", "_local_scalar_dense"),
        ("tinytl/memory_efficient/kept.py", "_cdata"),
        ("tinytl/memory_efficient/kept.py", "torch._subclasses.fake_tensor.FakeCopyMode"),
        ("tinytl/memory_efficient/kept.py", "torch._subclasses.fake_tensor.FakeTensorMode"),
        ("tinytl/memory_efficient/ops/pooling.py", "_adaptive_avg_pool2d_backward"),
        ("tinytl/memory/running_modules.py", "_C"),
        ("tinytl/memory/running_modules.py", "_current_graph_task_id"),
        ("tinytl/memory/running_modules.py", "torch.utils._pytree.tree_leaves"),
        ("tinytl/memory/storage_tracker.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/memory/kernel_answers.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/memory/storage_tracker.py", "torch.utils._python_dispatch.TorchDispatchMode"),
        ("tinytl/memory/storage_tracker.py", "torch.utils._pytree.tree_leaves"),
        ("tinytl/memory_efficient/block/working.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/memory_efficient/block/stock.py", "_backward_hooks"),
        ("tinytl/memory_efficient/block/stock.py", "_backward_pre_hooks"),
        ("tinytl/memory_efficient/block/stock.py", "_forward_hooks"),
        ("tinytl/memory_efficient/block/stock.py", "_forward_pre_hooks"),
        ("tinytl/memory_efficient/block/structure.py", "_modules"),
        ("tinytl/memory_efficient/lean_blocks.py", "_forward_hooks"),
        ("tinytl/memory_efficient/lean_blocks.py", "_forward_pre_hooks"),
        ("tinytl/memory_efficient/lean_runs.py", "_modules"),
        ("tinytl/memory_efficient/lean_modules.py", "_conv_forward"),
        ("tinytl/memory_efficient/ops/measured_scratch.py", "torch.utils._mode_utils.no_dispatch"),
        ("tinytl/training/int8_adam.py", "_fused_adam_"),
        ("tinytl/training/int8_adam.py", "_fused_adamw_"),
        ("tinytl/step_time/operation_timer.py", "torch.utils._python_dispatch.TorchDispatchMode"),
        ("tinytl/memory_efficient/ops/depthwise.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/memory_efficient/ops/bit_mask.py", "torch._subclasses.fake_tensor.FakeTensor"),
        ("tinytl/memory_efficient/ops/bit_mask_triton.py", "torch.utils._mode_utils.no_dispatch"),
        ("tinytl/memory_efficient/ops/kernel_scratch.py", "_is_mkldnn_bf16_supported"),
        ("tinytl/memory_efficient/ops/kernel_scratch.py", "_is_mkldnn_fp16_supported"),
        ("tinytl/memory_efficient/ops/pointwise.py", "_C"),
        ("tinytl/memory_efficient/ops/pointwise.py", "_get_mkldnn_enabled"),
        ("tinytl/memory_efficient/ops/pointwise.py", "_linear_pointwise"),
        ("tinytl/networks/update_methods.py", "torch.nn.modules.batchnorm._BatchNorm"),
        ("tinytl/networks/weight_standardization.py", "_conv_forward"),
        ("tinytl/plots/network_shapes.py", "_cdata"),
        ("tinytl/plots/network_shapes.py", "torch._subclasses.fake_tensor.FakeTensorMode"),
        ("tuner/cluster/joining.py", "ray._private.authentication.authentication_token_setup"),
        (
            "tuner/cluster/joining.py",
            "ray._private.authentication.http_token_authentication.get_auth_headers_if_auth_enabled",
        ),
        ("tuner/cluster/joining.py", "ray._private.services.canonicalize_bootstrap_address"),
        ("tuner/cluster/nodes.py", "ray._private.state.available_resources_per_node"),
        ("tuner/cluster/start.py", "_private"),
        ("tuner/cluster/start.py", "_worker_logs_enabled"),
        ("tuner/cluster/start.py", "ray._private.ray_constants"),
        ("tuner/cluster/start.py", "ray._private.services"),
        ("tuner/jobs/client.py", "ray._private.authentication.authentication_token_setup"),
        ("tuner/record/writer.py", "_trial_id"),
        ("tuner/search/scheduler.py", "_actor_manager"),
        ("tuner/search/scheduler.py", "_schedule_trial_stop"),
        ("tuner/search/scheduler.py", "_tune_controller"),
        ("tuner/trial/worker_death.py", "_actor_id"),
        ("tuner/trial/worker_death.py", "_actor_start_failed"),
        ("tuner/trial/worker_death.py", "_actor_task_failed"),
        ("tuner/trial/worker_death.py", "_live_actors_to_ray_actors_resources"),
        ("tuner/trial/worker_death.py", "_process_trial_failure"),
        ("tuner/trial/worker_death.py", "_resetting_trials"),
        ("tuner/trial/worker_death.py", "_set_trial_status"),
        ("tuner/trial/worker_death.py", "_tracked_actor"),
        ("tuner/trial/worker_death.py", "ray.air.execution._internal.RayActorManager"),
    }
)
"""File and name. One is added only if the library has no public name for it."""


def found_names() -> set[tuple[str, str]]:
    """Returns file and name of each private name in a file that imports one of the libraries."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return {(str(file.relative_to(ROOT)), name) for file in files for name in private_names(file)}


def private_names(file: Path) -> set[str]:
    """Returns imports, attributes and strings that begin with an underscore and are not defined in the file.

    Of what the file itself defines, names count that it reaches for in a base class by `super()`.
    """
    nodes = list(ast.walk(ast.parse(file.read_text())))
    imported = [name for node in nodes for name in _imports(node)]
    if not any(name.split(".")[0] in LIBRARIES for name in imported):
        return set()
    found = {name for name in imported if name.split(".")[0] in LIBRARIES and _is_private(name)}
    own = {name for node in nodes for name in _defined(node)} | OF_NAMED_TUPLES
    for node in nodes:
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            of_base = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
            if of_base or node.attr not in own:
                found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(IN_TEXT.findall(node.value))
    return found


def _is_private(name: str) -> bool:
    return any(re.match(r"_(?!_)", part) for part in name.split("."))


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)


def _defined(node: ast.AST) -> Iterator[str]:
    """Yields the names that a statement gives a function, a class, a field or an attribute of `self`."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            yield node.attr


def test_no_private_name_of_a_library_is_used_that_is_not_listed() -> None:
    assert sorted(found_names() - KNOWN) == []


def test_the_list_holds_no_name_that_is_no_longer_used() -> None:
    assert sorted(KNOWN - found_names()) == []


def test_every_way_to_a_private_name_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "import ray._private\n"
        "from optuna.storages._rdb import models\n"
        "PRELOADED = 'torch._dynamo,numpy'\n"
        "class Own(ray.Base):\n"
        "    _field = 1\n"
        "    def _start(self):\n"
        "        self._kept = super()._start()\n"
        "        return self._field, self._kept, self._inherited, trial._trial_id, pair._replace(a=1)\n"
    )
    assert private_names(file) == {
        "ray._private",
        "optuna.storages._rdb.models",
        "torch._dynamo",
        "_start",
        "_inherited",
        "_trial_id",
    }
    file.write_text("import json\nprint(json._default_encoder)\n")
    assert private_names(file) == set()
