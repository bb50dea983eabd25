from __future__ import annotations

import pytest

from edgekit.core.errors import SourceError
from edgekit.core.plugin import Source
from edgekit.core.registry import create


@pytest.mark.parametrize("offline", [True, False], ids=["told to stay offline", "nobody answers"])
def test_a_hub_that_does_not_answer_is_told_in_one_line(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    source = create(Source, {"use": "transformers", "path": "nobody/nothing"}, "model")
    with pytest.raises(SourceError, match="nobody/nothing: no such folder, and no such model on the hub or in its cache"):
        source.fingerprint()
