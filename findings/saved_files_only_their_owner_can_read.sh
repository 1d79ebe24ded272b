#!/usr/bin/env bash
# safetensors writes files that only their owner can read, whatever the umask says and whatever the file allowed before.
#
# On a machine that several people use, or in a container image, a model that one account saves cannot be loaded by any
# other: the file has mode 600 where every other program's would have 644 (umask 022). A file of mode 664 that is written
# again has 600 afterwards, too. What saves through safetensors (save_pretrained of transformers, for one) hands it on.
#
# Versions: safetensors 0.8.0, numpy 2.4.6, Python 3.11, Linux.
# Seen: "written by Python: 644, by safetensors: 600, a file of 664 written again: 600". Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "safetensors==0.8.0" "numpy==2.4.6"
cat > "$work/look.py" <<'PY'
import os
import sys
from pathlib import Path

import numpy
from safetensors.numpy import load_file, save_file

os.umask(0o022)
folder = Path(sys.argv[1])
plain, new, again = folder / "plain", folder / "new.safetensors", folder / "again.safetensors"
plain.write_bytes(b"")
again.write_bytes(b"")
again.chmod(0o664)
tensors = {"weight": numpy.arange(4.0)}
for file in (new, again):
    save_file(tensors, file)
    assert load_file(file)["weight"].tolist() == [0.0, 1.0, 2.0, 3.0]
modes = [f"{file.stat().st_mode & 0o777:o}" for file in (plain, new, again)]
print("written by Python: {}, by safetensors: {}, a file of 664 written again: {}".format(*modes))
sys.exit(0 if modes == ["644", "600", "600"] else 1)
PY
"$work/venv/bin/python" "$work/look.py" "$work"
echo "as described: only the owner can read what safetensors wrote"
