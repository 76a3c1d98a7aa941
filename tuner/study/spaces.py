"""`--list-spaces`: what there is to search. Imports nothing heavy."""

from rich.console import Console

from search_spaces.space import list_spaces, load_space


def describe_spaces(console: Console) -> None:
    """Prints each space's name, description and parameters."""
    for name in list_spaces():
        space = load_space(name)
        console.print(f"[bold]{name}[/bold]: {space.description}", highlight=False)
        for parameter in space.parameters:
            console.print(f"  {parameter.name}: {parameter.describe()}", highlight=False, markup=False)
