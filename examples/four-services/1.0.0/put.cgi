#!/bin/sh
# The cache: what was put last is what is got. Nothing outlives a restart.
head -c "$CONTENT_LENGTH" >/srv/count.new && mv /srv/count.new /srv/count
printf 'Content-Type: text/plain\r\n\r\n'
