import pytest

from tests.support.cases import small
from tinytl.memory import followed_steps, predict_many
from tinytl.memory.predict import resolve_plan
from tinytl.memory.predict_many import predict_memories


@pytest.mark.slow  # two processes begin
def test_several_predictions_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_many, "WORTH_A_PROCESS", 2)
    configs = [small(method="FT-Last", norm="frozen_bn", num_classes=n) for n in (2, 3, 4)]
    configs.append(small(method="FT-Last", norm="frozen_bn", batch_size=2, plan="smallest"))
    followed_steps.PREDICTED.clear()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(followed_steps._BUILT, "step", lambda config: pytest.fail("predicted here"))
        found = predict_memories(configs, processes=2)
        elsewhere.setattr(predict_many, "ProcessPoolExecutor", lambda *_: pytest.fail("predicted again"))
        assert predict_memories(configs[:3] * 2, processes=2) == found[:3] * 2
    for config, prediction in zip(configs, found, strict=True):
        assert followed_steps.predict_tensors(resolve_plan(config)) == prediction
    assert found[0] != found[2]
