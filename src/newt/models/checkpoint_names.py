"""The tensors of a checkpoint's files, and the parameters that transformers makes of them.

transformers joins the experts of a layer, which files often hold one by one, into one parameter, and gives some weights
other names. Its own conversion table says how, and is applied here to one parameter at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any

from torch import Tensor

from newt.models.quantize import skeleton
from newt.support.errors import NewtError


class CheckpointNames:
    """Which tensors of the files make up which parameter.

    Args:
        config: the transformers config of the checkpoint.
        names: the names of all tensors in its files.
    """

    def __init__(self, config: Any, names: Iterable[str]) -> None:
        self.config = config
        self.names = sorted(names)

    @cached_property
    def model(self) -> Any:
        """The model without weights."""
        from transformers import AutoModelForCausalLM

        return skeleton(self.config, AutoModelForCausalLM)

    def tensors_of(self, parameter: str) -> list[str]:
        """Names in the files of what makes up a parameter; empty where there is nothing."""
        return [name for name, _ in self._parts.get(parameter, ())]

    @cached_property
    def _conversions(self) -> tuple[list[Any], list[Any]]:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter

        entries = get_model_conversion_mapping(self.model)
        converters = [entry for entry in entries if isinstance(entry, WeightConverter)]
        return [entry for entry in entries if not isinstance(entry, WeightConverter)], converters

    @cached_property
    def _parts(self) -> dict[str, list[tuple[str, str | None]]]:
        """Parameter -> (name in the files, pattern of the conversion that joins it) in the order of joining."""
        from transformers.core_model_loading import dot_natural_key, rename_source_key

        renamings, converters = self._conversions
        known = self.model.state_dict()
        found = defaultdict(list)
        for name in sorted(self.names, key=dot_natural_key):
            parameter, pattern = rename_source_key(
                name, renamings, converters, self.model.base_model_prefix, meta_state_dict=known
            )
            found[parameter].append((name, pattern))
        return dict(found)

    def join(self, parameter: str, tensors: Mapping[str, Tensor]) -> Tensor:
        """The parameter that tensors of the files make up.

        Raises:
            NewtError: they make up several parameters.
        """
        parts = self._parts[parameter]
        patterns = {pattern for _, pattern in parts}
        if patterns == {None} and len(parts) == 1:
            return tensors[parts[0][0]]
        _, converters = self._conversions
        converter = next((deepcopy(one) for one in converters if patterns & set(one.source_patterns)), None)
        if converter is None:
            raise NewtError(f"The base's {parameter} is stored more than once: use merge_method: legacy")
        for name, pattern in parts:
            converter.add_tensor(parameter, name, pattern, tensors[name])
        found = converter.convert(parameter, model=self.model, config=self.model.config)
        if list(found) != [parameter]:
            raise NewtError(f"The base's files hold {parameter} together with others: use merge_method: legacy")
        value = found[parameter]
        joined: Tensor = value[0] if isinstance(value, list) else value
        return joined

    def split(self, parameter: str, tensor: Tensor) -> dict[str, Tensor]:
        """The tensors of the files that a parameter is made of: the reverse of ``join``.

        Raises:
            NewtError: transformers would write others.
        """
        from transformers.core_model_loading import revert_weight_conversion

        names = self.tensors_of(parameter)
        if len(names) == 1:
            return {names[0]: tensor}
        found: dict[str, Tensor] = revert_weight_conversion(self.model, {parameter: tensor})
        if sorted(found) != sorted(names):
            raise NewtError(f"The base's {parameter} is stored in another form: use merge_method: legacy")
        return found
