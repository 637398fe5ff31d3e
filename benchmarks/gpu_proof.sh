#!/usr/bin/env bash
# What only a GPU can show: tests, seconds, memory. Nothing is downloaded; weights are random.
#
#   benchmarks/gpu_proof.sh [--size 4b|tiny] [--out FOLDER] [--only PART,PART] [--minutes 8]
#
# Parts, in order: tests lora group generation eval vllm full small. Each writes FOLDER/PART.txt as it goes, so that a run
# that is cut off keeps what it has; what does not fit into the minutes is left out, and said. `--size tiny` does all of it
# on a CPU, where the figures say nothing. PYTHON names the interpreter. Large files go to TMPDIR; /dev/shm, which is
# memory, saves time.
set -uo pipefail
cd "$(dirname "$0")/.."

size=4b out=runs/gpu_proof only='' minutes=8
while [ $# -gt 0 ]; do
    case "$1" in
        --size) size=${2:?--size needs 4b or tiny} ;;
        --out) out=${2:?--out needs a folder} ;;
        --only) only=${2:?--only needs parts} ;;
        --minutes) minutes=${2:?--minutes needs a whole number} ;;
        *) echo "error: there is no option $1" >&2; echo "hint: --size, --out, --only, --minutes" >&2; exit 2 ;;
    esac
    shift 2
done

python=${PYTHON:-python}
export PYTHONUNBUFFERED=1
case "$size" in
    4b)
        small=2b slack=1
        group=(--device cuda --dtype bfloat16 --checkpointing --prompts 2560 --responses 256 --runs 1)
        generation=(--device cuda --dtype bfloat16 --prompt 2560 --prompts 4 --tokens 64 --runs 1 --growing)
        phases=(--rows 8 --steps 1)
        questions=(--num-samples 32 --runs 3 --batch-size 16 --tokens 64)
        ;;
    tiny)
        small=tiny slack=9
        group=(--dtype float32 --checkpointing --prompts 160 --responses 16 --runs 1)
        generation=(--dtype float32 --prompt 160 --prompts 2 --tokens 8 --runs 1 --growing)
        phases=(--rows 1 --steps 1 --perceiver-tokens 4 --reasoner-tokens 4 --set model.max_pixels=65536 --set model.device=cpu)
        questions=(--num-samples 1 --runs 1 --batch-size 16 --tokens 2)
        ;;
    *) echo "error: there is no size $size" >&2; echo "hint: --size is 4b or tiny" >&2; exit 2 ;;
esac

mkdir -p "$out"
failed=()

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$((slack * $2)) begun=$SECONDS code
    shift 2
    if [ -n "$only" ] && [[ ",$only," != *",$name,"* ]]; then return; fi
    local left=$((60 * minutes - SECONDS))
    if [ "$left" -lt 20 ]; then echo "== $name: left out, the $minutes minutes are over" | tee -a "$out/summary.txt"; return; fi
    echo "== $name: $*" | tee -a "$out/$name.txt"
    timeout $((limit < left ? limit : left)) "$@" 2>&1 | tee -a "$out/$name.txt"
    code=$?
    echo "== $name: $((SECONDS - begun)) s, exit code $code" | tee -a "$out/$name.txt" "$out/summary.txt"
    if [ "$code" -ne 0 ]; then failed+=("$name"); fi
}

if command -v nvidia-smi > /dev/null; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/card.txt"
fi
part tests 120 "$python" -m pytest -m gpu --durations=5 tests/integration/test_local_gpu.py tests/integration/test_training_gpu.py
part lora 200 "$python" -m benchmarks.speed_phases recipes/qwen3_vl_4b/pra_grpo_lora.toml --size "$size" "${phases[@]}" --most
part group 120 "$python" -m benchmarks.speed_training --size "$size" "${group[@]}"
part generation 120 "$python" -m benchmarks.speed_generation --size "$size" "${generation[@]}"
part eval 90 "$python" -m benchmarks.speed_local "${questions[@]}"
part eval 120 "$python" -m benchmarks.speed_local --size "$small" "${questions[@]}"
if "$python" -c "import vllm" 2> /dev/null; then
    part vllm 240 "$python" -m benchmarks.speed_phases recipes/qwen3_vl_4b/pra_grpo_lora.toml --size "$size" "${phases[@]}" --rollout vllm
else
    echo "== vllm: left out, it is not installed" | tee -a "$out/summary.txt"
fi
part full 180 "$python" -m benchmarks.speed_phases recipes/qwen3_vl_4b/pra_grpo.toml --size "$size" "${phases[@]}"
part small 120 "$python" -m benchmarks.speed_phases recipes/qwen3_vl_2b/pra_grpo_lora.toml --size "$small" "${phases[@]}"

echo "== all parts: $SECONDS s${failed[*]:+; failed: ${failed[*]}}" | tee -a "$out/summary.txt"
[ ${#failed[@]} -eq 0 ]
