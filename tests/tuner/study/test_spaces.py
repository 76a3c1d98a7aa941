from rich.console import Console

from search_spaces.space import list_spaces, load_space
from tuner.study.spaces import describe_spaces


def test_every_space_stands_with_its_description_and_its_parameters_as_they_are_written():
    console = Console(width=1000)
    with console.capture() as captured:
        describe_spaces(console)
    lines = captured.get().splitlines()
    wanted = []
    for name in list_spaces():
        space = load_space(name)
        wanted.append(f"{name}: {space.description}")
        wanted += [f"  {parameter.name}: {parameter.describe()}" for parameter in space.parameters]
    assert lines == wanted and len(lines) > 10
