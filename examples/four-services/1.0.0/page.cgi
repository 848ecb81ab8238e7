#!/bin/sh
# The page: its title, how often it was seen, what the worker counted, and the database's notes.
echo . >>/visits/seen
printf 'Content-Type: text/plain\r\n\r\n'
echo "# $TITLE"
echo "seen: $(wc -l </visits/seen)"
[ -z "$CACHE" ] || echo "counted: $(wget -q -O - "http://$CACHE:6379/count" || echo nothing yet)"
wget -q -O - "http://app:$(cat /run/secrets/db_password)@db:5432/cgi-bin/notes" || echo "no database"
