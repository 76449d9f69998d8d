#!/bin/bash
# As the official image's: an empty volume gets its root user from a server that asks for no password and is reached from this
# container only.
set -euo pipefail
start=(secantusd-py --port 27017 --storage-path /data/db --standalone --sync-on-commit)
if [ ! -e /data/db/has-root ]; then
    "${start[@]}" --host 127.0.0.1 &
    ROOT_PASSWORD=$(cat "$MONGO_INITDB_ROOT_PASSWORD_FILE")
    export ROOT_PASSWORD
    until (exec 3<>/dev/tcp/127.0.0.1/27017) 2>/dev/null; do sleep 0.1; done
    mongosh --quiet admin --eval 'const { MONGO_INITDB_ROOT_USERNAME: user, ROOT_PASSWORD: pwd } = process.env
        db.createUser({ user, pwd, roles: ["root"] })'
    unset ROOT_PASSWORD
    kill -TERM $!
    wait $! || true
    touch /data/db/has-root
fi
exec "${start[@]}" --host 0.0.0.0 --auth
