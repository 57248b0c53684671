#!/bin/sh
# The data API with curl. What may succeed later, and what broke off, is sent again with the same key, which makes each change
# happen once. `After` has whichever node answers show what was just written. The token needs the role `admin`, because
# the database that is made is dropped in the end.
#
#     DDB_URL=https://localhost:8443 DDB_CA=ca.crt DDB_TOKEN=… sh guestbook.sh
set -eu

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
umask 077
# In a file, because arguments can be read by everybody on the machine.
printf 'Authorization: Bearer %s\nPrefer: wait=5\n' "$DDB_TOKEN" > "$work/headers"

random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

# ask METHOD PATH [BODY]: prints the reply.
ask() {
    if [ "$1" != GET ]; then
        set -- "$1" "$2" -H "Idempotency-Key: $(random 16)" -H 'Content-Type: application/json' ${3:+--data "$3"}
    elif [ -e "$work/seen" ]; then
        set -- "$1" "$2" -H "After: $(cat "$work/seen")"
    fi
    method=$1 path=$2
    shift 2
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        status=$(curl -sS --max-time 20 --cacert "$DDB_CA" -H "@$work/headers" -D "$work/answer" -o "$work/body" \
            -w '%{http_code}' -X "$method" "$@" "$DDB_URL$path") || status=000
        case $status in
        2*)
            token=$(tr -d '\r' < "$work/answer" |
                awk -F ': ' 'tolower($1) == "write-token" { token = $2 } END { print token }')
            [ -z "$token" ] || printf '%s' "$token" > "$work/seen"
            cat "$work/body"
            echo
            return
            ;;
        000) ;;
        *) grep -q '"retryable":true' "$work/body" || break ;;
        esac
        sleep "$attempt"
    done
    cat "$work/body" >&2
    return 1
}

name=guestbook_$(random 4)
ask POST /v1/databases "{\"name\":\"$name\"}" > "$work/reply"
ask POST "/v1/databases/$name/tables" \
    '{"name":"visits","schema":"id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL"}' > "$work/reply"
rows=/v1/databases/$name/tables/visits/rows
ask POST "$rows" '[{"name":"Ada"},{"name":"Grace"}]' > "$work/reply"
ask GET "$rows?order=id&select=name"
ask DELETE "/v1/databases/$name?confirm=$name" > "$work/reply"
