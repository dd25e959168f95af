"""`%%bash` for the notebooks of the site: what a command writes is shown as it stands, and its status if it is not 0.

IPython's own passes the output on in pieces, which a page would show as lines of their own.
"""

import subprocess

from IPython.core.magic import register_cell_magic


@register_cell_magic
def bash(line: str, cell: str) -> None:
    """Run the lines of a cell by bash, in the notebook's folder, and print what they write."""
    done = subprocess.run(["bash", "-c", cell], capture_output=True, text=True)  # noqa: S603, S607
    status = f"status {done.returncode}\n" if done.returncode else ""
    print(done.stdout + done.stderr + status, end="")
    if done.returncode and "may-fail" not in line:
        raise RuntimeError("the command failed; a cell that may fail begins with %%bash may-fail")
