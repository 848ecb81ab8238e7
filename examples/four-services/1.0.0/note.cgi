#!/bin/sh
# Takes a note for the database; httpd has asked for the write key.
note=$(head -c 1000 | tr -d '\n')
printf 'Content-Type: text/plain\r\n\r\n'
wget -q -O - --post-data "$note" "http://app:$(cat /run/secrets/db_password)@db:5432/cgi-bin/notes"
