#!/bin/sh
# Nothing but what the sample says is needed; the overlay must be on, or half of the recipe would not be tested.
set -eu

grep -q '^COMPOSE_FILE=.*compose.worker.yml' "$CCCI_ENV_FILE"
