#!/usr/bin/env bash
# On a machine with a GPU and mechdrift installed: four checks at 8B, written to experiments/gpu/check.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
python experiments/gpu/check.py --out experiments/gpu/check.md "$@"
