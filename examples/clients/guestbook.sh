#!/bin/sh
# The data API with curl. curl itself tries again what was answered 503 or broke off (--retry-all-errors); the key makes
# each change happen once. `After` has whichever node answers show what was just written.
#
#     DDB_URL=https://localhost:8443 DDB_CA=ca.crt DDB_TOKEN=… sh guestbook.sh
set -eu

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
umask 077
# In a file, because arguments can be read by everybody on the machine.
printf 'Authorization: Bearer %s\nPrefer: wait=5\n' "$DDB_TOKEN" > "$work/headers"

# ask METHOD PATH [BODY]: prints the reply.
ask() {
    if [ "$1" = GET ]; then
        set -- "$@" -H "After: $(cat "$work/seen")"
    else
        key=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
        set -- "$1" "$2" -H "Idempotency-Key: $key" -H 'Content-Type: application/json' ${3:+--data "$3"}
    fi
    method=$1 path=$2
    shift 2
    curl -sS --fail-with-body --retry 5 --retry-all-errors --max-time 20 --cacert "$DDB_CA" -H "@$work/headers" \
        -D "$work/answer" -X "$method" "$@" "$DDB_URL$path"
    echo
    token=$(tr -d '\r' < "$work/answer" | awk -F ': ' 'tolower($1) == "write-token" { token = $2 } END { print token }')
    [ -z "$token" ] || printf '%s' "$token" > "$work/seen"
}

ask POST /v1/databases '{"name":"guestbook"}' > "$work/reply"
ask POST /v1/databases/guestbook/tables \
    '{"name":"visits","schema":"id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL"}' > "$work/reply"
rows=/v1/databases/guestbook/tables/visits/rows
ask POST $rows '[{"name":"Ada"},{"name":"Grace"}]' > "$work/reply"
ask GET "$rows?order=id&select=name"
ask DELETE '/v1/databases/guestbook?confirm=guestbook' > "$work/reply"
