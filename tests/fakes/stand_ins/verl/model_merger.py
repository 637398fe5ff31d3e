"""`python -m verl.model_merger merge`: nano as it is, in the target's place."""

import shutil
import sys
from pathlib import Path

from p2r.models.nano import CHECKPOINT

given = dict(each.removeprefix("--").split("=", 1) for each in sys.argv[2:])
assert sys.argv[1] == "merge" and given["backend"] == "fsdp", sys.argv
assert Path(given["local_dir"]).is_dir(), f"there is no checkpoint in {given['local_dir']}"
shutil.copytree(CHECKPOINT, given["target_dir"], dirs_exist_ok=True)
