"""Completion scripts."""

from typing import Annotated, Literal

from cyclopts import Parameter

from ._output import write_text


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="The shell you use.", show_default=False)], /
) -> None:
    """Print a script that completes commands and options; it is static, so completing is fast.

    bash:  caesura completion bash > ~/.local/share/bash-completion/completions/caesura
    zsh:   caesura completion zsh > ~/.zfunc/_caesura   (with ~/.zfunc in fpath, before compinit)
    fish:  caesura completion fish > ~/.config/fish/completions/caesura.fish
    """
    from ._cyclopts import app

    write_text(app().generate_completion(prog_name="caesura", shell=shell).removesuffix("\n"))
