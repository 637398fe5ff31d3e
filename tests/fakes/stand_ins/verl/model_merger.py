"""`python -m verl.model_merger merge`: a checkpoint that the test names, in the target's place."""

import json
import os
import shutil
import sys
from pathlib import Path

given = dict(each.removeprefix("--").split("=", 1) for each in sys.argv[2:])
assert sys.argv[1] == "merge" and given["backend"] == "fsdp", sys.argv
assert Path(given["local_dir"]).is_dir(), f"there is no checkpoint in {given['local_dir']}"
shutil.copytree(json.loads(os.environ["VERL_STAND_IN"])["checkpoint"], given["target_dir"], dirs_exist_ok=True)
