#!/bin/sh
# Gives the app a title of its own, before its first deploy.
set -eu

new="$TMPDIR/env.new"
sed "s/^INSTANCE_NAME=.*/INSTANCE_NAME=notes-of-$CCCI_DOMAIN/" "$CCCI_ENV_FILE" >"$new"
# Written into the same file, so that its owner and mode stay.
cat "$new" >"$CCCI_ENV_FILE"
rm "$new"
