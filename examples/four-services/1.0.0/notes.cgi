#!/bin/sh
# The database: a note posted is a line of a file; anything else gets them all. httpd has asked for the password.
printf 'Content-Type: text/plain\r\n\r\n'
if [ "$REQUEST_METHOD" = POST ]; then
	echo "note: $(head -c "$CONTENT_LENGTH")" >>/data/notes
	echo taken
else
	[ ! -e /data/notes ] || cat /data/notes
fi
