"""What tests of the command line share: the options of a run of seconds, and the JSON that a command prints."""

import json

TINY = (
    "--data.image-size 16 --data.size 96 --model.vision.patch-size 8 --model.vision.width 32 --model.vision.heads 1 "
    "--model.vision.layers 1 --model.text.width 32 --model.text.heads 1 --model.text.layers 1 --model.text.vocab-size 600 "
    "--train.batch-size 32 --train.steps 3 --train.device cpu --train.precision fp32 --train.eval-every 0"
).split()


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])
