#!/usr/bin/env bash
# The paper's pipeline on real weights and data: SSFT, evaluators of both losses, MTSF and its control, and the
# tables. Everything resumes: after an interruption the same command goes on.
#
#     python examples/smollm2.py --out runs/smollm2            # or any other checkpoint folder
#     bash examples/gsm8k.sh runs/smollm2 FOLDER_WITH_GSM8K runs/gsm8k
#
# FOLDER_WITH_GSM8K holds gsm8k_train.jsonl (or .jsonl.gz) and gsm8k_test.jsonl. Sizes come from the environment;
# the defaults are those of docs/RESULTS.md, section 4, and want a GPU. On a CPU, try
# STEPS=60 SCR=60 LATER=30 TEST=100 TRAIN=400 BATCH=8.
set -euo pipefail
[ $# = 3 ] || { echo "usage: gsm8k.sh BASE FOLDER_WITH_GSM8K OUT" >&2; exit 2; }
mkdir -p "$3"
base=$1 data=$(realpath "$2") out=$(realpath "$3")
[ ! -d "$base" ] || base=$(realpath "$base")  # else owner/name on the hub
cd "$(dirname "$0")/.."
train=$data/gsm8k_train.jsonl
[ -f "$train" ] || train=$train.gz

steps=${STEPS:-300} scr=${SCR:-250} later=${LATER:-150}  # optimiser steps of the stages
problems=${TEST:-500} n=${N:-16}                         # test problems, and samples of each
n_train=${TRAIN:-4000} rows=${ROWS:-1024}                # problems with candidates; samples side by side
dtype=(--dtype "${DTYPE:-bfloat16}")
fit=("${dtype[@]}" --batch-size "${BATCH:-64}" --data "$train" --max-new-tokens 200 --n-greedy 100 --resume)
decode=("${dtype[@]}" --max-new-tokens 200 --batch-rows "$rows")
test=("${decode[@]}" --data "$data/gsm8k_test.jsonl" --limit "$problems")

generator() {  # NAME MODEL FLAGS...: fine-tune MODEL on solutions, then sample and solve the test problems
    python train.py --stage ssft --model "$2" "${fit[@]}" "${@:3}" --out "$out/$1"
    solve "$1" "$out/$1"
}
solve() {  # NAME MODEL FLAGS...
    python sample.py --model "$2" "${test[@]}" "${@:3}" --n "$n" --out "$out/$1.jsonl"
    python sample.py --model "$2" "${test[@]}" "${@:3}" --greedy --out "$out/$1-greedy.jsonl"
}
judge() {  # SAMPLES EVALUATOR
    python rerank.py --evaluator "$out/$2" --samples "$out/$1.jsonl" "${dtype[@]}" --out "$out/$1-by-$2.jsonl"
}

solve base "$base" --few-shot 4 --shots "$train"
generator ssft "$base" --steps "$steps" --lr 3e-4 --eval-every "$((steps / 2))"
python sample.py --model "$out/ssft" "${decode[@]}" --data "$train" --limit "$n_train" --n 8 \
    --out "$out/candidates.jsonl"
for loss in xent margin; do
    # With --data: not on candidates of the problems that mtsf chooses its checkpoint on.
    python train.py --stage scr --loss "$loss" --model "$out/ssft" --samples "$out/candidates.jsonl" \
        --data "$train" "${dtype[@]}" --steps "$scr" --lr 1e-4 --eval-every "$((scr / 2))" --resume --out "$out/$loss"
    judge ssft "$loss"
done
python rerank.py --evaluator likelihood --samples "$out/ssft.jsonl" --out "$out/ssft-by-likelihood.jsonl"
generator mtsf "$out/xent" --steps "$later" --lr 3e-4 --seed 1
generator control "$out/ssft" --steps "$later" --lr 3e-4 --seed 1
judge mtsf xent

python evaluate.py "$out"/{base,ssft,mtsf,control}{,-greedy}.jsonl
python evaluate.py "$out"/ssft-by-{xent,margin,likelihood}.jsonl "$out/mtsf-by-xent.jsonl" \
    --rerank-plot "$out/figure1.png"
