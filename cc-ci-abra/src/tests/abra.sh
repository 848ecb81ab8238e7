#!/bin/sh
# An abra for tests. It writes its arguments to $FAKE_ABRA/journal, answers --version and --help, and does for each
# subcommand what the test has put into $FAKE_ABRA/does/.
set -eu
cd "$FAKE_ABRA"
echo "$*" >>journal
if [ -e hanging ]; then sleep 1000; fi
case "$*" in
--version)
    if [ -e version ]; then cat version; else echo "abra version 1.2.3"; fi
    exit
    ;;
--help)
    printf 'The Co-op Cloud utility\n\nUsage:\n  abra [command]\n\nFlags:\n'
    cat global
    exit
    ;;
*--help)
    command="${*% --help}"
    if [ -e "lacks-command" ] && [ "$(cat lacks-command)" = "$command" ]; then
        printf 'Manage apps\n\nUsage:\n  abra app [cmd] [flags]\n'
        exit
    fi
    printf 'Some words.\n\nUsage:\n  abra %s <domain> [flags]\n\nFlags:\n' "$command"
    cat flags
    exit
    ;;
esac
if [ -e "does/$2" ]; then
    . "./does/$2"
fi
