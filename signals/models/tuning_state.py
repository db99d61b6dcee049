"""The state of a tuning between two of its steps: arrays from which the other steps give the same to the bit."""

from typing import Any

import numpy as np
import numpy.typing as npt

State = dict[str, npt.NDArray[Any]]
STEP, CPU, GPU = "step", "random.cpu", "random.gpu"
OPTIMIZER = "optimizer."


def state_of(step: int, modules: Any, optimizer: Any, device: str) -> State:
    """Return the state after so many steps.

    Args:
        step: steps done.
        modules: everything that learns, a torch module; what is frozen is not part of the state.
        optimizer: of torch.
        device: where torch computes.
    """
    import torch

    found = {STEP: torch.tensor(step), CPU: torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        found[GPU] = torch.cuda.get_rng_state(device)
    found |= {name: value for name, value in modules.named_parameters() if value.requires_grad}
    for number, moments in optimizer.state_dict()["state"].items():
        found |= {f"{OPTIMIZER}{number}.{name}": value for name, value in moments.items()}
    return {name: np.array(value.detach().cpu().numpy()) for name, value in found.items()}


def restore(state: State, modules: Any, optimizer: Any, device: str) -> int:
    """Put modules, optimizer and random numbers into a state; return the steps done."""
    import torch

    arrays = {name: torch.tensor(value) for name, value in state.items()}
    torch.set_rng_state(arrays[CPU])
    if GPU in arrays:
        torch.cuda.set_rng_state(arrays[GPU], device)
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(arrays[name])
    moments: dict[int, dict[str, Any]] = {}
    for name in filter(lambda name: name.startswith(OPTIMIZER), arrays):
        number, _, moment = name.removeprefix(OPTIMIZER).partition(".")
        moments.setdefault(int(number), {})[moment] = arrays[name]
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state[STEP])
