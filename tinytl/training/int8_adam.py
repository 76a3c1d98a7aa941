"""Adam and AdamW that need 2 bytes per trained number for their moments instead of 8."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tinytl.training.int8_moments import (
    Piece,
    dither,
    n_blocks,
    pieces,
    read_first,
    read_second,
    write_first_,
    write_second_,
)
from tinytl.training.optimizers import UncompiledOptimizer

FEWEST_CODED = 4096
"""Smaller tensors keep moments of 32 bits, as in the paper: they are few, and biases among them."""
AT_ONCE = {"cpu": 1 << 16, "cuda": 1 << 18}
"""Numbers of a tensor whose moments are floats at one time: three times 256 KiB on a CPU, whose cache they
fit; 3 MiB on a GPU, which waits for launches below."""
CODES = ("exp_avg", "exp_avg_sq")
"""The entries of a state that hold codes; each has its scales under `NAME_scale`."""

State: TypeAlias = dict[str, Tensor]
Scaling: TypeAlias = dict[str, Tensor | None]


class Int8Adam(UncompiledOptimizer):
    """Adam, or AdamW if `decoupled`, with moments in 8 bits as `tinytl.training.int8_moments` stores them.

    A step reads a tensor's moments a piece at a time, updates them and the parameter in 32 bits with the
    kernel of torch's own Adam, and stores them again: at no time are there floats for a whole tensor. A
    learning rate may be a tensor, and the host reads nothing, so a CUDA graph can record a step.

    Parameters are float32, in any dense memory format; pieces follow the storage.
    """

    _step_supports_amp_scaling = True
    """Loss scaling hands a step `grad_scale` and `found_inf`, scalars on the device: torch's kernel divides
    by the one, and does nothing if the other is 1."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        decoupled: bool = False,
    ) -> None:
        """As torch's; each value may also stand in a group."""
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates the parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scaling = {name: getattr(self, name, None) for name in ("grad_scale", "found_inf")}
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self._state_of(parameter) for parameter in parameters]
            small: list[tuple[Tensor, State]] = []
            for parameter, state in zip(parameters, states, strict=True):
                state["step"].add_(1)
                if scaling["found_inf"] is not None:
                    state["step"].sub_(scaling["found_inf"])
                if is_coded(state):
                    _update_coded_(group, parameter, state, scaling)
                else:
                    small.append((parameter, state))
            if small:
                moments = ([state[name] for _, state in small] for name in (*CODES, "step"))
                exp_avgs, exp_avg_sqs, steps = moments
                parameters = [parameter for parameter, _ in small]
                gradients = [parameter.grad for parameter in parameters]
                _update_(group, parameters, gradients, exp_avgs, exp_avg_sqs, steps, scaling)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            state["step"] = state["step"].to(parameter.device)
            if is_coded(state):  # torch has given the codes their parameter's type
                for name in CODES:
                    state[name] = state[name].to(torch.int8)

    def _state_of(self, parameter: Tensor) -> State:
        state: State = self.state[parameter]
        if not state:
            assert _is_dense(parameter), "a parameter with gaps between its numbers"
            coded = parameter.numel() >= FEWEST_CODED
            state["step"] = torch.zeros((), device=parameter.device)
            for name in CODES:
                state[name] = torch.zeros_like(parameter, dtype=torch.int8 if coded else None)
                if coded:
                    state[f"{name}_scale"] = parameter.new_zeros(n_blocks(parameter.numel()))
        return state


def is_coded(state: State) -> bool:
    """Whether a parameter's moments are codes."""
    return f"{CODES[0]}_scale" in state


def lay_out_codes_(parameter: Tensor, state: State) -> None:
    """Codes moments anew if they lie in another order than their parameter, as those of a checkpoint may:
    a block is a run of the storage.
    """
    if _order(state[CODES[0]]) == _order(parameter):
        return
    most = AT_ONCE[parameter.device.type]
    floats = {name: torch.empty_like(state[name], dtype=torch.float32) for name in CODES}
    scratch = parameter.new_empty(min(most, parameter.numel()))
    for piece in pieces(parameter.numel(), most):
        read_first(*_coded(piece, state, "exp_avg"), piece.rows(floats["exp_avg"]), piece.floats(scratch))
        read_second(*_coded(piece, state, "exp_avg_sq"), piece.rows(floats["exp_avg_sq"]))
    for name in CODES:
        floats[name] = torch.empty_like(parameter).copy_(floats[name])
        state[name] = torch.empty_like(parameter, dtype=torch.int8)
    up = dither(state["step"])
    for piece in pieces(parameter.numel(), most):
        first, second = (piece.rows(floats[name]) for name in CODES)
        write_first_(*_coded(piece, state, "exp_avg"), first, piece.floats(scratch), up[: piece.width])
        write_second_(*_coded(piece, state, "exp_avg_sq"), second, up[: piece.width])


def _update_coded_(group: dict[str, Any], parameter: Tensor, state: State, scaling: Scaling) -> None:
    assert parameter.grad is not None
    gradient = parameter.grad
    if _order(gradient) != _order(parameter):
        gradient = torch.empty_like(parameter).copy_(gradient)
    most = AT_ONCE[parameter.device.type]
    up = dither(state["step"])
    if scaling["found_inf"] is not None:
        up.mul_(1 - scaling["found_inf"])  # to the nearest code, a number keeps the one that it has
    floats = [parameter.new_empty(min(most, parameter.numel())) for _ in range(3)]
    for piece in pieces(parameter.numel(), most):
        first, second, scratch = (piece.floats(row) for row in floats)
        codes, scales = _coded(piece, state, "exp_avg")
        codes_sq, scales_sq = _coded(piece, state, "exp_avg_sq")
        read_first(codes, scales, first, scratch)
        read_second(codes_sq, scales_sq, second)
        numbers, gradients = piece.rows(parameter), piece.rows(gradient)
        _update_(group, [numbers], [gradients], [first], [second], [state["step"]], scaling)
        write_first_(codes, scales, first, scratch, up[: piece.width])
        write_second_(codes_sq, scales_sq, second, up[: piece.width])


def _update_(
    group: dict[str, Any],
    parameters: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    scaling: Scaling,
) -> None:
    """Takes torch's step on float moments; `steps` count this one."""
    kernel = torch._fused_adamw_ if group["decoupled"] else torch._fused_adam_
    beta1, beta2 = group["betas"]
    kernel(
        parameters, gradients, exp_avgs, exp_avg_sqs, [], steps,
        lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
        amsgrad=False, maximize=False, **scaling,
    )  # fmt: skip


def _coded(piece: Piece, state: State, name: str) -> tuple[Tensor, Tensor]:
    return piece.rows(state[name]), piece.scales(state[f"{name}_scale"])


def _is_dense(tensor: Tensor) -> bool:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return last + 1 == tensor.numel()


def _order(tensor: Tensor) -> list[int]:
    """Returns the strides that matter: on an axis of one they may be anything."""
    return [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
